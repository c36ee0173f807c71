package vault

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

const (
	pushed     = understudyv1.PushState_PUSH_STATE_PUSHED
	pushFailed = understudyv1.PushState_PUSH_STATE_FAILED
)

// remoteVault returns a vault whose log is kept.
func remoteVault(t testing.TB, r Remote) (*Vault, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	return newVault(t, func(c *Config) {
		c.Remote = &r
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
	}), log
}

func wantPushed(t testing.TB, s synced) {
	t.Helper()
	if s.pushed != pushed || s.pushErr != nil {
		t.Fatalf("push: %v, %v", s.pushed, s.pushErr)
	}
}

func wantRefused(t testing.TB, s synced, reason RemoteReason) {
	t.Helper()
	var failed *RemoteError
	if s.pushed != pushFailed || !errors.As(s.pushErr, &failed) || failed.Reason != reason {
		t.Fatalf("push: %v, %v; want %s", s.pushed, s.pushErr, reason)
	}
	if remoteMessages[failed.Reason] == "" || !strings.HasPrefix(failed.PublicMessage(), remoteMessages[failed.Reason]) {
		t.Errorf("message %q", failed.PublicMessage())
	}
}

// sameBranch fails when the remote's branch is not ours.
func sameBranch(t testing.TB, v *Vault, remote string) {
	t.Helper()
	if ours, theirs := git(t, v.config.Directory, "rev-parse", "main"), git(t, remote, "rev-parse", "main"); ours != theirs {
		t.Errorf("ours is %s, theirs %s", ours, theirs)
	}
	checkRepository(t, v)
	if out := git(t, remote, "fsck", "--full", "--strict", "--no-progress", "--no-dangling"); out != "" {
		t.Errorf("git fsck of the remote: %s", out)
	}
}

// Every transport: push, push again, clone into a new repository, follow.
func TestTransports(t *testing.T) {
	remotes := map[string]func(t *testing.T) (string, Remote){
		"path": func(t *testing.T) (string, Remote) {
			path := bareRemote(t)
			return path, Remote{URL: path}
		},
		"file": func(t *testing.T) (string, Remote) {
			path := bareRemote(t)
			return path, Remote{URL: "file://" + path}
		},
		"https": func(t *testing.T) (string, Remote) {
			path := bareRemote(t)
			server := httpsServer(t, filepath.Dir(path), "secret")
			return path, Remote{URL: server.URL + "/remote.git", Token: token("secret"), HTTPClient: server.Client()}
		},
		"ssh": func(t *testing.T) (string, Remote) {
			path := bareRemote(t)
			address, key, known := sshServer(t)
			return path, Remote{URL: "ssh://git@" + address + path, SSHKey: func() ([]byte, error) { return key, nil }, KnownHosts: known}
		},
	}
	remotes["ssh with an agent"] = func(t *testing.T) (string, Remote) {
		path := bareRemote(t)
		address, key, known := sshServer(t)
		serveAgent(t, key)
		return path, Remote{URL: "ssh://git@" + address + path, KnownHosts: known}
	}
	for name, make := range remotes {
		t.Run(name, func(t *testing.T) {
			path, remote := make(t)
			v, log := remoteVault(t, remote)
			wantPushed(t, runSync(t, v, night, whole(groups, documents(numbered(0, 40)...))))
			sameBranch(t, v, path)
			wantPushed(t, runSync(t, v, night.Add(hour), whole(groups, documents(numbered(1, 41)...))))
			sameBranch(t, v, path)
			wantPushed(t, runSync(t, v, night.Add(2*hour), whole(groups, documents(numbered(1, 41)...))))
			if n := git(t, path, "rev-list", "--count", "main"); n != "2" {
				t.Errorf("%s commits", n)
			}

			clone, cloneLog := remoteVault(t, remote)
			s := runSync(t, clone, night.Add(3*hour), whole(groups, documents(numbered(1, 41)...)))
			settledAs(t, s.settled[groups.ID], unchanged, 40, 0, 0, 0)
			wantPushed(t, s)
			sameBranch(t, clone, path)

			wantPushed(t, runSync(t, clone, night.Add(4*hour), whole(groups, documents(numbered(1, 42)...))))
			s = runSync(t, v, night.Add(5*hour), whole(groups, documents(numbered(1, 42)...)))
			settledAs(t, s.settled[groups.ID], unchanged, 41, 0, 0, 0)
			wantPushed(t, s)
			sameBranch(t, v, path)
			if log.Len()+cloneLog.Len() > 0 {
				t.Errorf("log: %s%s", log, cloneLog)
			}
		})
	}
}

// A remote that was filled by somebody else is cloned with packs that hold deltas,
// and everything that is not ours is kept.
func TestFollowsAForeignHistory(t *testing.T) {
	path := bareRemote(t)
	otherPush(t, path, "README.md", strings.Repeat("Long lines that make deltas worth it.\n", 200))
	otherPush(t, path, "README.md", strings.Repeat("Long lines that make deltas worth it.\n", 201))
	otherPush(t, path, "entra/groups/notes/x.txt", "by hand")
	git(t, path, "repack", "-adfq")
	v, _ := remoteVault(t, Remote{URL: path})
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
	sameBranch(t, v, path)
	if now := files(t, v); now["entra/groups/notes/x.txt"] != "by hand" || !strings.HasPrefix(now["README.md"], "Long") {
		t.Errorf("what was not ours is gone: %v", now)
	}
	otherPush(t, path, "README.md", "short")
	wantPushed(t, runSync(t, v, night.Add(hour), whole(groups, documents("a", "b"))))
	sameBranch(t, v, path)
	if now := files(t, v); now["README.md"] != "short" || itemsOf(now, groups) == nil {
		t.Errorf("%v", now)
	}
}

// A failed push keeps the commit; the next sync pushes both, also without a change.
func TestFailedPushIsMadeUp(t *testing.T) {
	path := bareRemote(t)
	v, log := remoteVault(t, Remote{URL: path})
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
	hidden := path + ".hidden"
	if err := os.Rename(path, hidden); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		s := runSync(t, v, night.Add(time.Duration(i+1)*hour), whole(groups, documents(numbered(0, 3+i)...)), whole(apps, documents("x")))
		wantRefused(t, s, RemoteNotFound)
		if !s.snapshot.GetCreated() {
			t.Error("no commit without the remote")
		}
	}
	if !strings.Contains(log.String(), "goes on without it") {
		t.Errorf("log: %s", log)
	}
	if err := os.Rename(hidden, path); err != nil {
		t.Fatal(err)
	}
	s := runSync(t, v, night.Add(4*hour), whole(groups, documents(numbered(0, 4)...)), whole(apps, documents("x")))
	wantPushed(t, s)
	if s.snapshot.GetCreated() {
		t.Error("a commit without a change")
	}
	sameBranch(t, v, path)
	if n := git(t, path, "rev-list", "--count", "main"); n != "3" {
		t.Errorf("%s commits", n)
	}
}

// What a remote writes stays with it: hooks, pages, realms.
func TestRefusalsDoNotLeak(t *testing.T) {
	path := bareRemote(t)
	hook(t, path, "pre-receive", "echo MARKER; echo MARKER >&2; exit 1")
	server := httpsServer(t, filepath.Dir(path), "secret-token")
	address, key, known := sshServer(t)
	_, otherKey, otherKnown := sshServer(t)
	private := func(pem []byte) func() ([]byte, error) { return func() ([]byte, error) { return pem, nil } }
	broken := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>MARKER") }))
	t.Cleanup(broken.Close)
	lying := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-"+r.URL.Query().Get("service")+"-advertisement")
		_, _ = io.WriteString(w, "000aMARKER")
	}))
	t.Cleanup(lying.Close)
	for name, test := range map[string]struct {
		remote Remote
		reason RemoteReason
	}{
		"hook, path":          {Remote{URL: path}, RemoteRejected},
		"hook, https":         {Remote{URL: server.URL + "/remote.git", Token: token("secret-token"), HTTPClient: server.Client()}, RemoteRejected},
		"hook, ssh":           {Remote{URL: "ssh://git@" + address + path, SSHKey: private(key), KnownHosts: known}, RemoteRejected},
		"wrong token":         {Remote{URL: server.URL + "/remote.git", Token: token("wrong-secret-token"), HTTPClient: server.Client()}, RemoteUnauthorized},
		"no token":            {Remote{URL: server.URL + "/remote.git", HTTPClient: server.Client()}, RemoteUnauthorized},
		"token not readable":  {Remote{URL: server.URL + "/remote.git", Token: func() (string, error) { return "", errors.New("MARKER") }, HTTPClient: server.Client()}, RemoteCredential},
		"moved":               {Remote{URL: server.URL + "/moved/remote.git", Token: token("secret-token"), HTTPClient: server.Client()}, RemoteNotFound},
		"no repository":       {Remote{URL: server.URL + "/MARKER.git", Token: token("secret-token"), HTTPClient: server.Client()}, RemoteNotFound},
		"unknown authority":   {Remote{URL: server.URL + "/remote.git", Token: token("secret-token")}, RemoteUntrusted},
		"no repository, ssh":  {Remote{URL: "ssh://git@" + address + "/MARKER", SSHKey: private(key), KnownHosts: known}, RemoteNotFound},
		"wrong key":           {Remote{URL: "ssh://git@" + address + path, SSHKey: private(otherKey), KnownHosts: known}, RemoteUnauthorized},
		"unknown host":        {Remote{URL: "ssh://git@" + address + path, SSHKey: private(key), KnownHosts: otherKnown}, RemoteUntrusted},
		"no known hosts":      {Remote{URL: "ssh://git@" + address + path, SSHKey: private(key), KnownHosts: path + "/none"}, RemoteUntrusted},
		"key not readable":    {Remote{URL: "ssh://git@" + address + path, SSHKey: private([]byte("MARKER")), KnownHosts: known}, RemoteCredential},
		"not a Git server":    {Remote{URL: broken.URL, HTTPClient: broken.Client()}, RemoteBroken},
		"broken references":   {Remote{URL: lying.URL, HTTPClient: lying.Client()}, RemoteBroken},
		"nobody there, https": {Remote{URL: "https://127.0.0.1:1/x"}, RemoteUnreachable},
		"nobody there, ssh":   {Remote{URL: "ssh://git@127.0.0.1:1/x", SSHKey: private(key), KnownHosts: known}, RemoteUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			v, log := remoteVault(t, test.remote)
			s := runSync(t, v, night, whole(groups, documents("a")))
			wantRefused(t, s, test.reason)
			var public interface{ PublicMessage() string }
			if !errors.As(s.pushErr, &public) {
				t.Fatal("it has no message for people")
			}
			said := log.String() + s.pushErr.Error() + public.PublicMessage()
			for _, secret := range []string{"MARKER", "secret-token", "html"} {
				if strings.Contains(said, secret) {
					t.Errorf("%q leaked: %s", secret, said)
				}
			}
			grepFolder(t, v.config.Directory, "MARKER", "secret-token")
			checkRepository(t, v)
		})
	}
}

func TestAddresses(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://example.com/x.git": true, "ssh://git@example.com/x": true, "ssh://git@example.com:2222/x": true, "git@example.com:x/y.git": true,
		"git@[::1]:x": true, "/srv/x.git": true, "file:///srv/x.git": true,
		"": false, "x": false, "x.git": false, "../x": false, "http://example.com/x": false, "git://example.com/x": false, "https:///x": false, "ssh://git@example.com": false,
		"https://user@example.com/MARKER": false, "https://user:MARKER@example.com/x": false, "ssh://git:MARKER@example.com/x": false, "https://MARKER@example.com/x": false,
		"file://host/x": false, "https://example.com/x?token=MARKER": false, "https://example.com/x#MARKER": false, "ext::sh -c MARKER": false, "https://ex ample/MARKER": false,
		"-x": false, "--upload-pack=MARKER": false,
	} {
		_, err := Open(Config{Directory: t.TempDir(), FingerprintKey: testKey, Remote: &Remote{URL: address}})
		if (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "MARKER") {
			t.Errorf("%q: the error holds the address: %v", address, err)
		}
	}
}

// Nothing waits for a remote for ever: not for its first byte, and not in a hook.
func TestPushIsBoundedInTime(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	_, key, _ := sshServer(t)
	known := filepath.Join(t.TempDir(), "known")
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if err := os.WriteFile(known, []byte("[127.0.0.1]:"+port+" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	slow := bareRemote(t)
	hook(t, slow, "pre-receive", "sleep 60 >/dev/null 2>&1")
	for name, remote := range map[string]Remote{
		"https":     {URL: "https://" + listener.Addr().String() + "/x", Timeout: 300 * time.Millisecond},
		"ssh":       {URL: "ssh://git@" + listener.Addr().String() + "/x", SSHKey: func() ([]byte, error) { return key, nil }, KnownHosts: known, Timeout: 300 * time.Millisecond},
		"slow hook": {URL: slow, Timeout: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, _ := remoteVault(t, remote)
			begin := time.Now()
			s := runSync(t, v, night, whole(groups, documents("a")))
			wantRefused(t, s, RemoteTimedOut)
			if elapsed := time.Since(begin); elapsed > 20*time.Second {
				t.Errorf("it took %v", elapsed)
			}
			checkRepository(t, v)
		})
	}
}

// Somebody pushes while the sync runs: nothing is forced, our commit is built again on
// theirs, and the snapshot names the one that is there.
func TestLostRace(t *testing.T) {
	t.Parallel()
	path := bareRemote(t)
	v, _ := remoteVault(t, Remote{URL: path})
	wantPushed(t, runSync(t, v, night, whole(groups, documents("a"))))
	// The hook moves the branch after the push has seen it.
	git(t, path, "config", "receive.denyNonFastForwards", "true")
	theirs := otherPush(t, path, "README.md", "x")
	git(t, path, "update-ref", "refs/heads/main", theirs+"~1")
	hook(t, path, "pre-receive", "unset GIT_QUARANTINE_PATH; git update-ref refs/heads/main "+theirs)
	s := runNamedSync(t, v, theSync, night.Add(hour), whole(groups, documents("a", "b")))
	wantPushed(t, s)
	if got := git(t, path, "rev-parse", "main"); got != s.snapshot.GetCommit() || git(t, path, "rev-parse", "main~1") != theirs {
		t.Errorf("the remote is at %s, the snapshot is %v", got, s.snapshot)
	}
	if got := git(t, path, "rev-parse", "main^{tree}"); got != s.snapshot.GetTree() {
		t.Errorf("the remote has the tree %s, the snapshot is %v", got, s.snapshot)
	}
	sameBranch(t, v, path)
	now := files(t, v)
	if now["README.md"] != "x" || len(itemsOf(now, groups)) != 2 {
		t.Errorf("files %v", sortedKeys(now))
	}
	// Others are faster every time: it is given up, and made up for by the next sync.
	hook(t, path, "pre-receive", `unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
echo x >> tries; git update-ref refs/heads/main $(git commit-tree -p main -m "$(cat tries)" main^{tree})`)
	s = runSync(t, v, night.Add(2*hour), whole(groups, documents("a", "b", "c")))
	wantRefused(t, s, RemoteMoved)
	tries, err := os.ReadFile(filepath.Join(path, "tries"))
	if err != nil || strings.Count(string(tries), "x") != maxPushes {
		t.Errorf("%q, %v", tries, err)
	}
	if err := os.Remove(filepath.Join(path, "hooks", "pre-receive")); err != nil {
		t.Fatal(err)
	}
	wantPushed(t, runSync(t, v, night.Add(3*hour), whole(groups, documents("a", "b", "c"))))
	sameBranch(t, v, path)
}
