// Package journaltest runs a NATS cluster of three servers for tests of what several
// replicas share: on loopback, in temporary directories, and with every write on the
// disk before it is acknowledged. The servers run in the process of the test, or each
// in one of its own, which can be killed and frozen.
package journaltest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.internal/internal/journal"
)

// Nodes is how many servers a cluster has.
const Nodes = 3

// Cluster is a cluster of three servers. Its methods may be called at the same time.
type Cluster struct {
	directory string
	processes bool
	configs   [Nodes]config

	mu      sync.Mutex
	running [Nodes]node
}

// node is a server that runs.
type node interface {
	// kill ends it; a process without a chance to do anything more.
	kill()
	// freeze stops a process until it is thawed.
	freeze()
	thaw()
}

// New starts a cluster for one test, in its process.
func New(t testing.TB) *Cluster {
	t.Helper()
	return start(t, false)
}

// NewProcesses starts a cluster for one test, each server in a process of its own. The
// TestMain of the package has to call [Main].
func NewProcesses(t testing.TB) *Cluster {
	t.Helper()
	return start(t, true)
}

func start(t testing.TB, processes bool) *Cluster {
	t.Helper()
	c, err := Start(t.TempDir(), processes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Start starts a cluster that stores under a directory. Close it.
func Start(directory string, processes bool) (*Cluster, error) {
	c := &Cluster{directory: directory, processes: processes}
	var ports [3 * Nodes]int
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	for i := range Nodes {
		name := fmt.Sprintf("node-%d", i)
		c.configs[i] = config{
			Name: name, Directory: filepath.Join(directory, name),
			Port: ports[3*i], Monitor: ports[3*i+1], Routes: []int{ports[3*i+2], ports[2], ports[5], ports[8]},
		}
	}
	for i := range Nodes {
		if err := c.Restart(i); err != nil {
			c.Close()
			return nil, err
		}
	}
	if err := c.wait(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// freePort returns a port that nobody used a moment ago.
func freePort() (int, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// wait waits until the cluster has a leader that every server knows.
func (c *Cluster) wait() error {
	deadline := time.Now().Add(60 * time.Second)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !c.Current() {
		if time.Now().After(deadline) {
			return fmt.Errorf("the cluster in %s was not ready in time", c.directory)
		}
		<-ticker.C
	}
	return nil
}

// Servers are the addresses of all servers, also of those that were killed.
func (c *Cluster) Servers() []string {
	var servers []string
	for _, config := range c.configs {
		servers = append(servers, "nats://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(config.Port)))
	}
	return servers
}

// Config returns the configuration of a replica that has the cluster as its journal.
// Those with the same prefix share it.
func (c *Cluster) Config(prefix, replica string) journal.Config {
	return journal.Config{Replica: replica, Cluster: &journal.Cluster{Servers: c.Servers(), Prefix: prefix}}
}

// Open opens the journal of a replica, until the test is over.
func (c *Cluster) Open(t testing.TB, config journal.Config) *journal.Journal {
	t.Helper()
	j, err := journal.Open(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

// Leader returns which server leads a stream, or -1.
func (c *Cluster) Leader(stream string) int {
	conn, err := nats.Connect(c.Servers()[0], func(o *nats.Options) error {
		o.Servers = c.Servers()
		return nil
	})
	if err != nil {
		return -1
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return -1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil || s.CachedInfo().Cluster == nil {
		return -1
	}
	for i, config := range c.configs {
		if config.Name == s.CachedInfo().Cluster.Leader {
			return i
		}
	}
	return -1
}

// Current says whether every server runs and has everything that is stored.
func (c *Cluster) Current() bool {
	client := http.Client{Timeout: time.Second}
	for _, config := range c.configs {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet,
			"http://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(config.Monitor))+"/healthz", http.NoBody)
		if err != nil {
			return false
		}
		answer, err := client.Do(request)
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return false
		}
	}
	return true
}

// Kill ends a server at once: as with kill -9 where it is a process.
func (c *Cluster) Kill(i int) {
	c.mu.Lock()
	n := c.running[i]
	c.running[i] = nil
	c.mu.Unlock()
	if n != nil {
		n.kill()
	}
}

// Freeze stops a process until Thaw: it is there, and answers nothing.
func (c *Cluster) Freeze(i int) { c.on(i, node.freeze) }

// Thaw lets a process go on.
func (c *Cluster) Thaw(i int) { c.on(i, node.thaw) }

func (c *Cluster) on(i int, do func(node)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.running[i]; n != nil {
		do(n)
	}
}

// Restart starts a server that was killed, on what it had stored.
func (c *Cluster) Restart(i int) error {
	run := runHere
	if c.processes {
		run = runProcess
	}
	n, err := run(c.configs[i])
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[i] = n
	return nil
}

// Close stops every server.
func (c *Cluster) Close() {
	for i := range Nodes {
		c.Kill(i)
	}
	_ = os.RemoveAll(c.directory)
}
