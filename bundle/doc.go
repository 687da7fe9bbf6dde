// Package bundle owns what `narwhal push` brings: it makes git bundles out of a
// developer's checkout (create.go), reads their headers (header.go), and is a
// node's store of them (store.go), which is a blob.Store.
//
// Invariants: a bundle's name is the SHA-256 of its bytes, and none is handed out
// under a name that its bytes don't have. One is in the store whole or not at
// all. Creating one changes nothing in the checkout that it is made from: no
// index, no object, no ref.
//
// Start reading at Store and Create.
package bundle
