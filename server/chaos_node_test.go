package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// asNode makes the test binary a node of a NATS cluster, with a configuration file.
const asNode = "UNDERSTUDY_TEST_AS_NODE"

// runNode is a node until it is killed. It returns the exit code.
func runNode(file string) int {
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitUsage
	}
	node, err := server.NewServer(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	node.ConfigureLogger()
	node.Start()
	node.WaitForShutdown()
	return exitOK
}

// natsCluster is a cluster of nodes, each a process of its own, as a platform team
// would run it.
type natsCluster struct {
	nodes     []*child
	addresses []string
}

// newNATSCluster starts nodes and waits until each takes connections.
func newNATSCluster(t testing.TB, size int) *natsCluster {
	t.Helper()
	folder := t.TempDir()
	c := &natsCluster{}
	var routes []string
	for range size {
		c.addresses = append(c.addresses, freeAddress(t))
		routes = append(routes, freeAddress(t))
	}
	for i, address := range c.addresses {
		content := fmt.Sprintf("server_name: n%d\nlisten: %q\njetstream {store_dir: %q, sync_interval: always}\n",
			i, address, filepath.Join(folder, fmt.Sprint(i)))
		if size > 1 {
			content += fmt.Sprintf("cluster {name: chaos, listen: %q, routes: [\"nats://%s\"]}\n", routes[i], strings.Join(routes, `", "nats://`))
		}
		file := filepath.Join(folder, fmt.Sprintf("n%d.conf", i))
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		node := &child{name: fmt.Sprintf("n%d", i), environment: []string{asNode + "=" + file}}
		node.start(t)
		c.nodes = append(c.nodes, node)
	}
	for _, address := range c.addresses {
		waitForAddress(t, address)
	}
	return c
}

// freeAddress returns a loopback address that nobody uses now: where there are others
// than 127.0.0.1, one whose port no outgoing connection takes while nobody listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.77.1:0")
	if err != nil {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// waitForAddress waits until somebody listens there.
func waitForAddress(t testing.TB, address string) {
	t.Helper()
	eventually(t, 30*time.Second, "somebody listens on "+address, func() bool {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			connection.Close()
		}
		return err == nil
	})
}

// eventually polls a condition until a deadline.
func eventually(t testing.TB, deadline time.Duration, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	over := time.After(deadline)
	for !condition() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatal("waited in vain for: " + what)
		}
	}
}

// child is a process of the test binary that can be killed and started again.
type child struct {
	name        string
	arguments   []string
	environment []string
	command     *exec.Cmd
	said        lockedBuffer

	mu sync.Mutex
	// wanted says that the process is to run; ended is closed when it does not.
	wanted bool
	ended  chan struct{}
	// failures counts how often it ended by itself.
	failures int
}

// start starts the process, which ends with the test. When it ends by itself it is
// started again after a second, as systemd does it.
func (c *child) start(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = true
	if err := c.startLocked(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
}

func (c *child) startLocked() error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	command, ended := exec.Command(executable, c.arguments...), make(chan struct{})
	command.Env = append(os.Environ(), c.environment...)
	command.Stdout, command.Stderr = &c.said, &c.said
	if err := command.Start(); err != nil {
		return err
	}
	c.command, c.ended = command, ended
	go func() {
		_ = command.Wait()
		close(ended)
		c.startAgain(ended)
	}()
	return nil
}

// startAgain starts a process that ended by itself.
func (c *child) startAgain(ended chan struct{}) {
	<-time.After(time.Second)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wanted || c.ended != ended {
		return
	}
	c.failures++
	if err := c.startLocked(); err != nil {
		fmt.Fprintln(&c.said, "starting again:", err)
	}
}

// kill ends the process as a power cut would.
func (c *child) kill() {
	c.mu.Lock()
	c.wanted = false
	command, ended := c.command, c.ended
	c.mu.Unlock()
	_ = command.Process.Kill()
	<-ended
}

// complaints returns the last of what the process said, without what is known.
func (c *child) complaints() string {
	var lines []string
	for line := range strings.Lines(c.said.String()) {
		if !strings.Contains(line, "msg=configuration") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(len(lines)-40, 0):], "")
}
