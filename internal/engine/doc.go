// Package engine runs syncs: it decides who reads what, goes on without the user
// when the user cannot authenticate, and says how a sync ends.
//
// In: requests of the edge ([Service]), and the syncs that the journal says are
// not finished ([Engine.Recover]). Out: events, through [port.Log], and at most
// one commit a sync, through [port.Staging]. The engine owns every goroutine of a
// sync; [Engine.Run] waits for all of them. A sync belongs to the engine and not
// to those who watch it: it ends only by itself, by [Engine.Cancel], by its time
// limit or with the engine.
//
// The rules are those of docs/architecture.md. The first: what was not read
// completely never changes or removes what was backed up before.
package engine
