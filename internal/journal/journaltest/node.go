package journaltest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// config says how one server runs.
type config struct {
	Name, Directory string
	// Port is for clients, Monitor for questions about its health.
	Port, Monitor int
	// Routes are the ports at which the servers find each other, its own first.
	Routes []int
}

// environment holds the configuration of a server that is a process.
const environment = "UNDERSTUDY_JOURNALTEST_NODE"

// ready is what a process says when it serves.
const ready = "ready"

// Main is a TestMain for packages that use [NewProcesses]: it runs the tests, or, where
// the process was started for that, one server. It returns the exit code.
func Main(m *testing.M) int {
	text := os.Getenv(environment)
	if text == "" {
		return m.Run()
	}
	var c config
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		_, err = runHere(c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err := fmt.Fprintln(os.Stdout, ready); err != nil {
		return 1
	}
	// It ends with the process that started it, whatever becomes of that.
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// here is a server in this process.
type here struct{ server *server.Server }

func runHere(c config) (node, error) {
	options := &server.Options{
		ServerName: c.Name, Host: "127.0.0.1", Port: c.Port, HTTPHost: "127.0.0.1", HTTPPort: c.Monitor,
		NoLog: true, NoSigs: true, JetStream: true, StoreDir: c.Directory, SyncAlways: true,
		Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: c.Routes[0]},
	}
	for _, port := range c.Routes[1:] {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		s.Shutdown()
		return nil, fmt.Errorf("%s was not ready in time", c.Name)
	}
	return here{s}, nil
}

func (h here) kill() {
	h.server.Shutdown()
	h.server.WaitForShutdown()
}

func (here) freeze() {}
func (here) thaw()   {}

// process is a server in a process of its own.
type process struct {
	command *exec.Cmd
	stdin   io.Closer
}

func runProcess(c config) (node, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := &exec.Cmd{Path: executable, Args: []string{executable}, Env: append(os.Environ(), environment+"="+string(text)), Stderr: os.Stderr}
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := process{command, stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != ready+"\n" {
		p.kill()
		return nil, errors.New("a server's process did not start; does TestMain call journaltest.Main?")
	}
	return p, nil
}

func (p process) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
	_ = p.stdin.Close()
}

func (p process) freeze() { _ = p.command.Process.Signal(syscall.SIGSTOP) }
func (p process) thaw()   { _ = p.command.Process.Signal(syscall.SIGCONT) }
