package vault

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// Remote is a repository that is followed and pushed to. Secrets are functions, so
// that a changed one is used by the next sync; they are never part of the URL.
type Remote struct {
	// URL is `https://host/path`, `ssh://git@host/path` or `git@host:path`. An
	// absolute path and `file:///path`, which need the git command, are for tests: the
	// configuration does not take them.
	URL string
	// Username and Token are sent to an https remote as basic authentication. Token
	// nil: no authentication. Most hosts take any user name beside a token;
	// `x-access-token` when empty.
	Username string
	Token    func() (string, error)
	// SSHKey returns a private key in PEM form without a passphrase. Nil: the agent
	// at SSH_AUTH_SOCK.
	SSHKey func() ([]byte, error)
	// KnownHosts is the file of host keys; `~/.ssh/known_hosts` when empty. A host
	// that it does not name is refused.
	KnownHosts string
	// HTTPClient carries https requests, for example with a CA of its own. Its
	// redirects are not followed.
	HTTPClient *http.Client
	// Timeout bounds a push, and looking at the remote; 2 minutes. Fetching what a
	// remote has and we do not may take five times as long.
	Timeout time.Duration
}

// fetchFactor is how much longer than a push a fetch may take.
const fetchFactor = 5

// remote is a Remote that was found usable.
type remote struct {
	Remote
	dial func(ctx context.Context, service string) (*exchange, error)
}

// The services of a Git server.
const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
)

// exchange is one conversation with a service: what it advertises, then one
// request with its answer.
type exchange struct {
	refs *packp.AdvRefs
	// send sends a request of a known size and returns the answer.
	send func(request request) (answer, error)
	// close ends the conversation and frees what it holds.
	close func()
}

// tip returns the commit of a branch of the remote, or zero.
func (e *exchange) tip(branch plumbing.ReferenceName) plumbing.Hash {
	return e.refs.References[branch.String()]
}

// scpLike is Git's short form of an ssh address, `user@host:path`.
var scpLike = regexp.MustCompile(`^([A-Za-z0-9._-]+)@([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([^:].*)$`)

// newRemote checks a remote. Its errors do not hold the URL, where somebody may
// have put a secret.
func newRemote(config *Remote) (*remote, error) {
	if config == nil {
		return nil, nil
	}
	r := &remote{Remote: *config}
	if r.Timeout <= 0 {
		r.Timeout = 2 * time.Minute
	}
	if r.Username == "" {
		r.Username = "x-access-token"
	}
	address, relative := r.URL, false
	if filepath.IsAbs(address) {
		r.dial = fileRemote{path: address}.dial
		return r, nil
	}
	if part := scpLike.FindStringSubmatch(address); part != nil {
		relative = !strings.HasPrefix(part[3], "/") // to the home of the user
		address = "ssh://" + part[1] + "@" + part[2] + "/" + strings.TrimPrefix(part[3], "/")
	}
	u, err := url.Parse(address)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(u.Path, "\x00\n") {
		return nil, errors.New("repository.remote is not an address")
	}
	if _, secret := u.User.Password(); secret || (u.User != nil && u.Scheme != "ssh") {
		return nil, errors.New("repository.remote has a user name or password in it: write the address without them")
	}
	switch {
	case u.Scheme == "https" && u.Host != "":
		r.dial = newHTTPSRemote(r, u).dial
	case u.Scheme == "ssh" && u.Host != "" && u.Path != "":
		path := u.Path
		if relative {
			path = strings.TrimPrefix(path, "/")
		}
		r.dial = sshRemote{remote: r, url: u, path: path}.dial
	case u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path):
		r.dial = fileRemote{path: u.Path}.dial
	default:
		return nil, errors.New("repository.remote is none of https://host/path, ssh://git@host/path and git@host:path")
	}
	return r, nil
}

// open starts a conversation. Its errors are [*RemoteError].
func (r *remote) open(ctx context.Context, service string) (*exchange, error) {
	e, err := r.dial(ctx, service)
	if err != nil {
		return nil, remoteError(ctx, err)
	}
	return e, nil
}

// openSoon opens a conversation within the remote's timeout; what follows may take
// as long as ctx lasts.
func (r *remote) openSoon(ctx context.Context, service string) (*exchange, error) {
	inner, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(r.Timeout, cancel)
	e, err := r.open(inner, service)
	if !timer.Stop() && err == nil {
		e.close()
		err = &RemoteError{Reason: RemoteTimedOut}
	}
	if err != nil {
		cancel()
		return nil, err
	}
	end := e.close
	e.close = func() {
		end()
		cancel()
	}
	return e, nil
}
