package vault

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshRemote runs the services of a remote through ssh. Unlike go-git's client it is
// bounded in time from the first byte on.
type sshRemote struct {
	remote *remote
	url    *url.URL
	// path of the repository, as its host is to read it.
	path string
}

func (s sshRemote) address() string {
	port := s.url.Port()
	if port == "" {
		port = "22"
	}
	return net.JoinHostPort(s.url.Hostname(), port)
}

func (s sshRemote) dial(ctx context.Context, service string) (*exchange, error) {
	config, release, err := s.config(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", s.address())
	if err != nil {
		return nil, err
	}
	stopWatching := context.AfterFunc(ctx, func() { connection.Close() })
	stop := func() {
		stopWatching()
		connection.Close()
	}
	transport, channels, requests, err := ssh.NewClientConn(connection, s.address(), config)
	if err != nil {
		stop()
		return nil, handshakeError(err)
	}
	session, err := ssh.NewClient(transport, channels, requests).NewSession()
	if err != nil {
		stop()
		return nil, err
	}
	in, inErr := session.StdinPipe()
	out, outErr := session.StdoutPipe()
	if err := errors.Join(inErr, outErr, session.Start(service+" "+shellQuote(s.path))); err != nil {
		stop()
		return nil, err
	}
	return stream(in, out, stop)
}

// shellQuote makes one word of a path, as git does.
func shellQuote(path string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(path) + "'"
}

// config says who we are and which hosts we trust.
func (s sshRemote) config(ctx context.Context) (_ *ssh.ClientConfig, release func(), _ error) {
	known, algorithms, err := s.knownHosts()
	if err != nil {
		return nil, nil, err
	}
	methods, release, err := s.methods(ctx)
	if err != nil {
		return nil, nil, err
	}
	user := s.url.User.Username()
	if user == "" {
		user = "git"
	}
	return &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{methods}, HostKeyCallback: known, HostKeyAlgorithms: algorithms,
	}, release, nil
}

func (s sshRemote) methods(ctx context.Context) (ssh.AuthMethod, func(), error) {
	if s.remote.SSHKey != nil {
		pem, err := s.remote.SSHKey()
		if err != nil {
			return nil, nil, &RemoteError{Reason: RemoteCredential}
		}
		signer, err := ssh.ParsePrivateKey(pem)
		if err != nil {
			return nil, nil, &RemoteError{Reason: RemoteCredential, Detail: "it is not a private key without a passphrase"}
		}
		return ssh.PublicKeys(signer), func() {}, nil
	}
	socket, err := new(net.Dialer).DialContext(ctx, "unix", os.Getenv("SSH_AUTH_SOCK"))
	if err != nil {
		return nil, nil, &RemoteError{Reason: RemoteCredential, Detail: "there is neither a key nor an agent"}
	}
	return ssh.PublicKeysCallback(agent.NewClient(socket).Signers), func() { socket.Close() }, nil
}

// knownHosts returns the check of the host's key, and the kinds of key that are
// known of it: a host that also has others is to show one of these.
func (s sshRemote) knownHosts() (ssh.HostKeyCallback, []string, error) {
	path := s.remote.KnownHosts
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, nil, &RemoteError{Reason: RemoteUntrusted, Detail: "there is no file of known hosts"}
		}
		path = filepath.Join(home, ".ssh", "known_hosts")
	}
	check, err := knownhosts.New(path)
	if err != nil {
		return nil, nil, &RemoteError{Reason: RemoteUntrusted, Detail: "the file of known hosts cannot be read"}
	}
	var refused *knownhosts.KeyError
	if err := check(s.address(), &net.TCPAddr{}, noKey{}); !errors.As(err, &refused) || len(refused.Want) == 0 {
		return nil, nil, &RemoteError{Reason: RemoteUntrusted, Detail: "the file of known hosts does not name it"}
	}
	var algorithms []string
	for _, key := range refused.Want {
		if kind := key.Key.Type(); kind == ssh.KeyAlgoRSA {
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			algorithms = append(algorithms, kind)
		}
	}
	return check, algorithms, nil
}

// noKey is a key that no host has: asking for it names those that are known.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

// handshakeError tells a host that is not trusted from one that refused us.
func handshakeError(err error) error {
	var host *knownhosts.KeyError
	var network *net.OpError
	switch {
	case errors.As(err, &host):
		return &RemoteError{Reason: RemoteUntrusted}
	case errors.As(err, &network):
		return err
	case strings.Contains(err.Error(), "unable to authenticate"): // x/crypto/ssh has no type for it
		return &RemoteError{Reason: RemoteUnauthorized}
	}
	return err
}

// isBrokenPipe says that the other side reads no more.
func isBrokenPipe(err error) bool { return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) }
