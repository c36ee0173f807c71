package journal_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"understudy.internal/internal/journal"
)

// TestListen: a command hears the replicas of its own installation, those that do
// nothing too, and nobody hears it; who left is not heard.
func TestListen(t *testing.T) {
	t.Parallel()
	c, prefix := onCluster(t)
	_, another := onCluster(t)
	c.Open(t, c.Config(another, "z"))
	config := c.Config(prefix, "a")
	config.Lease = 3 * time.Second
	a := c.Open(t, config)
	config.Replica = "b"
	b := c.Open(t, config)
	until(t, "they hear of each other", func() bool { return len(a.Alive()) == 2 && len(b.Alive()) == 2 })
	for _, want := range [][]string{{a.Worker(), b.Worker()}, {a.Worker()}, nil} {
		heard, err := journal.Listen(t.Context(), config.Cluster, config.Lease)
		if err != nil || !slices.Equal(heard, want) {
			t.Errorf("heard %v, %v; want %v", heard, err, want)
		}
		if alive := a.Alive(); len(want) > 0 && len(alive) != len(want) {
			t.Errorf("alive = %v: the command counts as a replica", alive)
		}
		if len(want) == 2 {
			b.Leave()
			until(t, "b left", func() bool { return len(a.Alive()) == 1 })
		} else {
			a.Leave()
		}
	}
}

// TestListenMayNot: silence is told only by who could hear.
func TestListenMayNot(t *testing.T) {
	t.Parallel()
	port := serve(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{">"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}}}
	})
	cluster := &journal.Cluster{Servers: []string{"nats://127.0.0.1:" + strconv.Itoa(port)}, User: "u", Password: "p", Replicas: 1}
	if heard, err := journal.Listen(t.Context(), cluster, time.Second); err == nil {
		t.Errorf("it heard %v", heard)
	}
}
