package journal_test

import (
	"strings"
	"testing"

	"understudy.internal/internal/journal"
)

// TestOpenStore: a command sees the values of the replicas, takes no part, and makes
// nothing where there are none.
func TestOpenStore(t *testing.T) {
	c, prefix := onCluster(t)
	config := c.Config(prefix, "a")
	if _, _, err := journal.OpenStore(t.Context(), config.Cluster, "tokens"); err == nil || !strings.Contains(err.Error(), "has no journal") {
		t.Errorf("before a replica was there: %v", err)
	}
	j := c.Open(t, config)
	if err := j.Store("tokens").Save("k", []byte("1")); err != nil {
		t.Fatal(err)
	}
	store, closeStore, err := journal.OpenStore(t.Context(), config.Cluster, "tokens")
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore()
	if value, err := store.Load("k"); string(value) != "1" || err != nil {
		t.Errorf("%q, %v", value, err)
	}
	if err := store.Delete("k"); err != nil {
		t.Fatal(err)
	}
	if value, err := j.Store("tokens").Load("k"); value != nil || err != nil {
		t.Errorf("it is still there: %q, %v", value, err)
	}
	if alive := j.Alive(); len(alive) != 1 {
		t.Errorf("alive = %v: the command counts as a replica", alive)
	}
}
