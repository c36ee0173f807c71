// Package engine runs syncs: it decides who reads what, goes on without the user
// when the user cannot authenticate, and says how a sync ends.
//
// In: requests of the edge ([Service]), and the syncs that the journal says are
// not finished. Out: events, through [port.Log], and at most one commit a sync,
// through [port.Staging]. The engine owns every goroutine of a sync; [Engine.Run]
// waits for all of them. A sync belongs to the engines and not to those who watch it:
// it ends only by itself, by [Engine.Cancel] or by its time limit.
//
// An engine is one of several workers that share a journal, which is the only thing
// that they share for sure. It takes a sync, and takes over one whose worker died, by
// an event that names it; it stops without a word when another one did that with a
// sync of its own. See docs/decisions/replicas.md and interrupted-syncs.md there.
//
// The rules are those of docs/architecture.md. The first: what was not read
// completely never changes or removes what was backed up before.
package engine
