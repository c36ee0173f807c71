// Package journal keeps what happened: one durable log of events per sync, and
// the record of every sync that was accepted.
//
// It is built on NATS JetStream: embedded in the process (no port, one store
// directory), or a cluster that several processes share. One code path serves both.
// Every write is on the disk before it is acknowledged. In: new syncs and the events
// of their workers, also those that other processes store. Out: syncs as their events
// leave them, events from any sequence, watchers that never miss or repeat a durable
// event, also after a restart or on another process, and who is alive.
//
// The events are the truth. A sync is the fold of its first record and its events
// ([Apply]); nothing else is stored that could disagree with them.
//
// Three streams: SYNCS has one message per sync, its record when it was accepted,
// with headers that say whether it is over; EVENTS has the events, one subject per
// sync, and in one message those that were stored together; KEYS has the values of [Store]. A message that was acknowledged is on the
// disk. No record and no event is stored but behind the one that it has to follow: that
// is the only lock there is. What is not stored (progress, prompts, that a worker is alive)
// goes from process to process by plain messages.
//
// The journal owns the connection, and the embedded server with its directory, which
// is locked against a second process. docs/decisions/replicas.md says why it is so.
package journal
