// Package graph reads the configuration of one tenant from Microsoft Graph.
//
// In come configuration types ([catalog.Type]) and identities ([port.Identity]);
// out go complete items as the bytes that Graph sent, and errors that say what
// could not be read ([port.ReadError], [port.AuthError]).
//
// One request takes this way:
//
//		Read ─▶ azcore pipeline: retries ─▶ token ─▶ gate ─▶ batcher ─▶ HTTP
//
//	  - [Source] lives as long as the tenant's definition. It owns the gates (how
//	    fast each workload may be asked) and the connection slots, which all syncs
//	    share.
//	  - A session is one sync. It owns the tokens in use, the batchers, the list of
//	    workloads that it gave up, and every goroutine that it starts.
//	  - A reading is one call of Read: one type as one identity. It owns the items
//	    that are being completed. Of them a workload has at most a fixed number,
//	    whatever the number of readings, so that memory does not grow with the tenant.
//
// Retries are azcore's, for parts of a batch too: the batcher stands where the
// pipeline's transport is, and answers each part as if it had been sent alone.
package graph
