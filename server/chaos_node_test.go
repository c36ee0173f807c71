package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// freeAddress returns a loopback address that nobody uses now.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
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
	ended       chan struct{}
}

// start starts the process, which ends with the test.
func (c *child) start(t testing.TB) {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.command = exec.Command(executable, c.arguments...)
	c.command.Env = append(os.Environ(), c.environment...)
	c.command.Stdout, c.command.Stderr = &c.said, &c.said
	if err := c.command.Start(); err != nil {
		t.Fatal(err)
	}
	command, ended := c.command, make(chan struct{})
	c.ended = ended
	go func() {
		defer close(ended)
		_ = command.Wait()
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
	})
}

// kill ends the process as a power cut would.
func (c *child) kill() {
	_ = c.command.Process.Kill()
	<-c.ended
}

// gone says whether the process ended by itself.
func (c *child) gone() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}
