package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// longestListening bounds how long [Listen] takes.
const longestListening = 2 * time.Minute

// Listen returns the workers that are heard on a cluster, sorted, for a command that
// must not run beside them. It takes half of the lease time, the longest pause between
// two signs of life and some more, and no part in the work. A worker that is frozen or
// cut off is not heard, nor is one that starts afterwards, and perhaps not one with a
// lease more than twice as long.
func Listen(ctx context.Context, cluster *Cluster, lease time.Duration) (_ []string, err error) {
	c, err := cluster.complete()
	if err != nil {
		return nil, err
	}
	conn, err := c.connect(ctx, "command/"+strings.ToLower(nuid.Next()), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, longestListening+publishTimeout)
	defer cancel()
	heard := map[string]bool{}
	subscription, err := conn.SubscribeSync(clusterNames(c.Prefix).alive())
	if err == nil {
		err = conn.FlushWithContext(ctx)
	}
	if err == nil {
		err = hearAll(ctx, subscription, min(lease/2, longestListening), heard)
	}
	if err == nil {
		err = conn.FlushWithContext(ctx) // who is cut off hears nobody
	}
	if err == nil && conn.Stats().Reconnects > 0 {
		err = errors.New("the connection was lost meanwhile")
	}
	if err == nil {
		err = conn.LastError() // such as that it may not listen
	}
	if err != nil {
		return nil, fmt.Errorf("listening for the replicas on the journal's cluster: %w", err)
	}
	return slices.Sorted(maps.Keys(heard)), nil
}

// hearAll notes who says that it is alive, for a while. Who leaves meanwhile is gone.
func hearAll(ctx context.Context, subscription *nats.Subscription, patience time.Duration, heard map[string]bool) error {
	listening, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		message, err := subscription.NextMsgWithContext(listening)
		switch {
		case err != nil && listening.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		}
		if worker := message.Header.Get(headerWorker); worker != "" {
			heard[worker] = true
			if message.Header.Get(headerLeft) != "" {
				delete(heard, worker)
			}
		}
	}
}
