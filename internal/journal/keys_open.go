package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// OpenStore opens the values under a name on a cluster, for a command that needs
// nothing else of the journal: it reads no history, takes no part in the work, and
// makes no streams. Close it.
func OpenStore(ctx context.Context, cluster *Cluster, name string) (_ *Store, closeStore func(), err error) {
	c, err := cluster.complete()
	if err != nil {
		return nil, nil, err
	}
	logger := slog.New(slog.DiscardHandler)
	conn, err := c.connect(ctx, "command/"+strings.ToLower(nuid.Next()), logger)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the journal: %w", err)
	}
	j := &Journal{logger: logger, conn: conn, names: clusterNames(c.Prefix)}
	j.store = &store{conn: conn, js: js, names: j.names, patience: clusterPatience, ready: func() error { return nil }}
	err = j.store.patiently(ctx, clusterPatience, func(ctx context.Context) (err error) {
		j.store.keys, err = js.Stream(ctx, j.names.keys)
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, nil, fmt.Errorf("the cluster has no journal with the prefix %s: no replica was ever started on it", c.Prefix)
	case err != nil:
		return nil, nil, fmt.Errorf("opening the stream of keys: %w", err)
	}
	return j.Store(name), conn.Close, nil
}
