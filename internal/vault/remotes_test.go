package vault

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// bareRemote makes an empty remote repository.
func bareRemote(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "remote.git")
	git(t, t.TempDir(), "init", "-q", "--bare", "--initial-branch=main", path)
	git(t, path, "config", "http.receivepack", "true")
	return path
}

// hook installs a hook of a remote.
func hook(t testing.TB, remote, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(remote, "hooks", name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// otherPush lets somebody else push a file.
func otherPush(t testing.TB, remote, name, content string) string {
	t.Helper()
	work := filepath.Join(t.TempDir(), "work")
	git(t, t.TempDir(), "clone", "-q", remote, work)
	path := filepath.Join(work, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, work, "checkout", "-q", "-B", "main")
	git(t, work, "add", "-A")
	git(t, work, "commit", "-q", "-m", "by hand")
	git(t, work, "push", "-q", "origin", "main")
	return git(t, work, "rev-parse", "HEAD")
}

// httpsServer serves a folder of repositories with git's own CGI program, to those
// who know the token.
func httpsServer(t testing.TB, root, token string) *httptest.Server {
	t.Helper()
	backend := filepath.Join(git(t, root, "--exec-path"), "git-http-backend")
	handler := &cgi.Handler{Path: backend, Env: []string{
		"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_SYSTEM=" + os.DevNull,
		"REMOTE_USER=understudy",
	}, Stderr: io.Discard}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "x-access-token" || password != token {
			w.Header().Set("WWW-Authenticate", `Basic realm="MARKER"`)
			http.Error(w, "MARKER", http.StatusUnauthorized)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/moved/") {
			http.Redirect(w, r, "https://example.com/MARKER", http.StatusMovedPermanently)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

func token(value string) func() (string, error) { return func() (string, error) { return value, nil } }

// sshServer runs the services of git for those who have a key. It returns its
// address, the private key, and a file of known hosts.
func sshServer(t testing.TB) (address string, key []byte, knownHosts string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	_, hostKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewSignerFromKey(hostKey)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
		if string(offered.Marshal()) != string(ours.Marshal()) {
			return nil, errors.New("MARKER")
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go serveSSH(ctx, connection, config)
		}
	}()
	knownHosts = filepath.Join(t.TempDir(), "known_hosts")
	hostName, port, _ := net.SplitHostPort(listener.Addr().String())
	line := fmt.Sprintf("[%s]:%s %s", hostName, port, ssh.MarshalAuthorizedKey(host.PublicKey()))
	if err := os.WriteFile(knownHosts, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String(), pem.EncodeToMemory(block), knownHosts
}

// serveAgent runs an agent that holds a key.
func serveAgent(t *testing.T, key []byte) {
	t.Helper()
	private, err := ssh.ParseRawPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "agent") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keyring, connection) }()
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", socket)
}

func serveSSH(ctx context.Context, connection net.Conn, config *ssh.ServerConfig) {
	defer connection.Close()
	_, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for opened := range channels {
		channel, requests, err := opened.Accept()
		if err != nil {
			return
		}
		go func() {
			defer channel.Close()
			for request := range requests {
				if request.Type != "exec" {
					_ = request.Reply(false, nil)
					continue
				}
				_ = request.Reply(true, nil)
				var line struct{ Command string }
				if ssh.Unmarshal(request.Payload, &line) == nil {
					command := exec.CommandContext(ctx, "sh", "-c", line.Command)
					command.Stdout, command.Stderr = channel, channel.Stderr()
					if in, err := command.StdinPipe(); err == nil { // unlike Stdin, it is not waited for
						go func() {
							_, _ = io.Copy(in, channel)
							in.Close()
						}()
					}
					_ = command.Run()
				}
				_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{}))
				return
			}
		}()
	}
}
