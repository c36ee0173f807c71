// Package edge is the service as callers see it: gRPC services, interceptors,
// statuses, health, reflection, and an orderly end.
//
// What comes in: calls of the contract (package understudyv1) on any
// net.Listener. What goes out: the answers of the engine and the journal, and
// their typed errors as statuses with details. The edge decides nothing about a
// sync: it starts, cancels and shows syncs, and a sync outlives every call, but
// for cancel_on_disconnect.
//
// Who owns what: the caller of [New] owns the engine, the journal, the catalog
// and the listener's address; [Server.Serve] owns the listener, every connection
// and every goroutine that it starts, and returns when all of them have ended.
//
// Where things are: one interceptor per file (interceptor_*.go), the chain and
// the reasons for its order in chain.go, the table of all methods in methods.go,
// errors to statuses in status.go, one file per kind of call (start.go,
// stream.go, list_*.go), the end in drain.go.
package edge
