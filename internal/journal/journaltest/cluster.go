// Package journaltest runs a NATS cluster of three servers in the process of a test,
// for what several replicas share: on loopback, in temporary directories, and with
// every write on the disk before it is acknowledged.
package journaltest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"understudy.internal/internal/journal"
)

// nodes is how many servers a cluster has.
const nodes = 3

// Cluster is a cluster of three servers. Its methods may be called at the same time.
type Cluster struct {
	directory string
	options   [nodes]*server.Options

	mu      sync.Mutex
	servers [nodes]*server.Server
}

// New starts a cluster for one test.
func New(t testing.TB) *Cluster {
	t.Helper()
	c, err := Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Start starts a cluster that stores under a directory. Close it.
func Start(directory string) (*Cluster, error) {
	c := &Cluster{directory: directory}
	var clients, routes [nodes]int
	for i := range nodes {
		var err error
		if clients[i], err = freePort(); err != nil {
			return nil, err
		}
		if routes[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	for i := range nodes {
		name := fmt.Sprintf("node-%d", i)
		options := &server.Options{
			ServerName: name, Host: "127.0.0.1", Port: clients[i], NoLog: true, NoSigs: true,
			JetStream: true, StoreDir: filepath.Join(directory, name), SyncAlways: true,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: routes[i]},
		}
		for _, port := range routes {
			options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
		}
		c.options[i] = options
	}
	for i := range nodes {
		if err := c.start(i); err != nil {
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

func (c *Cluster) start(i int) error {
	s, err := server.NewServer(c.options[i].Clone())
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		s.Shutdown()
		return fmt.Errorf("server %d was not ready in time", i)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers[i] = s
	return nil
}

// wait waits until the cluster has a leader that knows every server.
func (c *Cluster) wait() error {
	deadline := time.Now().Add(60 * time.Second)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		c.mu.Lock()
		ready := false
		for _, s := range c.servers {
			ready = ready || (s != nil && s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == nodes)
		}
		c.mu.Unlock()
		if ready {
			return nil
		}
		if time.Now().After(deadline) {
			break
		}
	}
	return errors.New("the cluster found no leader in time")
}

// Servers are the addresses of all servers, also of those that were killed.
func (c *Cluster) Servers() []string {
	var servers []string
	for _, o := range c.options {
		servers = append(servers, "nats://"+net.JoinHostPort(o.Host, strconv.Itoa(o.Port)))
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
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.servers {
		if s != nil && s.JetStreamIsStreamLeader("$G", stream) {
			return i
		}
	}
	return -1
}

// Current says whether every server runs and has everything that is stored.
func (c *Cluster) Current() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		if s == nil || s.Healthz(&server.HealthzOptions{}).StatusCode != http.StatusOK {
			return false
		}
	}
	return true
}

// Kill stops a server, without giving what it leads to another one first.
func (c *Cluster) Kill(i int) {
	c.mu.Lock()
	s := c.servers[i]
	c.servers[i] = nil
	c.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

// Restart starts a server that was killed, on what it had stored.
func (c *Cluster) Restart(i int) error { return c.start(i) }

// Close stops every server.
func (c *Cluster) Close() {
	for i := range nodes {
		c.Kill(i)
	}
	_ = os.RemoveAll(c.directory)
}
