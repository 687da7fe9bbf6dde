// Package copies keeps the logs of attempts from going with the machine that they
// were written on. While an attempt runs, its node sends what was written to a second
// node, a second later at most; once it has ended, its log is sealed: compressed,
// named by its SHA-256, kept on both, and entered into the replicated state.
//
// It doesn't own the log's format (package joblog), the store that sealed logs are in
// (package blob), nor who reads what from where (package api).
//
// Invariants: a copy is a prefix of its log, at every time; a log is removed from
// where it was written only after the state names who has it sealed; one whose node
// has died is sealed by the node that has the copy.
//
// Start reading at Copier.round; Shelf is the other end.
package copies
