// Package journal keeps what happened: one durable log of events per sync, and
// the record of every sync that was accepted.
//
// It is built on NATS JetStream, embedded in the process: no port, one store
// directory, every write on the disk before it is acknowledged. In: new syncs and
// the events of their workers. Out: syncs as their events leave them, events from
// any sequence, and watchers that never miss or repeat a durable event, also after
// a restart.
//
// The events are the truth. A sync is the fold of its first record and its events
// ([Apply]); nothing else is stored that could disagree with them.
//
// Two streams: SYNCS has one message per sync, its record when it was accepted,
// with headers that say whether it is over; EVENTS has the events, one subject per
// sync. A message that was acknowledged is on the disk. The journal owns the
// server, its directory (locked against a second process) and the connection.
package journal
