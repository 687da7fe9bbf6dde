// Package fsm is the replicated state: its nouns, the commands that change it,
// and Apply, the only road by which it changes. It is pure: no clock, no
// randomness, no I/O, no goroutine; whoever proposes a command brings the time.
//
// # Glossary
//
//   - Commit: what arrived. A repository at a SHA, and the event that told of it.
//   - Build: a commit's run. It is planned once, into jobs.
//   - Job: what is placed on one node. Job 0 of every build is its plan: a node
//     reads narwhal.yml and proposes the others.
//   - Attempt: one placement of a job. Every report carries its number and token.
//   - Step: a command in a job.
//   - Node: a member that runs jobs, with what it has and what is reserved of it.
//   - Leader: the node whose commands enter the log.
//   - Group: jobs of any build of which only so many run at a time.
//   - Schedule: times of the clock at which a branch's newest commit is built.
//   - Scope: whose builds may read a cache.
//   - Remote: a git server's repository that pushes were told of.
//   - Head: what a branch or tag of a remote was seen to point at.
//
// # What can happen to a job
//
//	         needs allow it      placed            node confirms
//	Blocked ─────────────▶ Queued ─────▶ Assigned ─────────────▶ Running
//	   │  │                 ▲▲ │            │                       │
//	   │  │ manual          ││ │            │ node lost, or what    │ exit 0   ▶ Passed
//	   │  └──▶ Held ────────┘│ │            │ its retry names       │ exit ≠ 0 ▶ Failed
//	   │        │  approved  └─┼────────────┴───────────────────────┤
//	   │        │ rejected     │ canceled, or        retries used   │          ▶ Errored
//	   │        │              │ replaced            up             │
//	   ├────────┴──────────────┴────────────────────────────────────┴────────▶ Canceled
//	   │ left out, or a need was; nothing failed for an on_failure
//	   └─────────────────────────────────────────────────────────────────────▶ Skipped
//
// A job that failed or errored and may (allow_failure) counts as passed, for the
// jobs that need it and for its build. Plans of older versions let it fail only.
//
// A build is Queued until its plan is placed, Running until its last job has
// ended, and then never changes again.
//
// # Invariants
//
//   - A commit's key is built once: AddBuild with a key that is known is a no-op
//     that answers with the build there is.
//   - Only the current attempt's token counts. A repeat changes nothing, all
//     else is refused with ErrStale.
//   - What is reserved on a node is the sum of the resources of the jobs placed
//     on it and never above its capacity.
//   - A concurrency group never holds more than its limit: jobs that lie on a
//     node, or builds that have begun with it. Where it cancels what is in progress,
//     nothing of an older build goes on beside a newer one's.
//   - A time of a schedule starts one build, whoever notices it and how often.
//   - A look at a remote moves a head only from the SHA that it was compared with.
//   - A published State never changes: readers need no lock, a snapshot is a
//     pointer.
//
// Start reading at State (state.go), then Command (command.go) and Apply
// (apply.go).
package fsm
