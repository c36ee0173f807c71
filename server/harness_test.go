package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/identity"
	"understudy.internal/internal/simulator"
)

// harness is a lab under test: the real assembly, with a client.
type harness struct {
	*testing.T
	ctx    context.Context
	lab    *lab
	client understudyv1.SyncServiceClient
	// said is everything that the service logged or sent, but for prompts.
	said *lockedBuffer
}

// harnessTypes are few, and of every kind: lists with pages, children and details,
// singletons; four of the service principal, three of the user.
var harnessTypes = []string{
	"entra/groups", "intune/device-health-scripts", "intune/device-configurations", "entra/organization",
	"entra/terms-of-use", "print/settings", "entra/feature-rollout-policies",
}

// harnessTimeout bounds one case.
const harnessTimeout = 3 * time.Minute

func newHarness(t *testing.T, changes ...func(*labConfig)) *harness {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	h := &harness{T: t, ctx: ctx, said: &lockedBuffer{}}
	folder := t.TempDir()
	// One key for all cases: fingerprints of secrets can be compared.
	keys := filepath.Join(folder, "data", "keys")
	key := base64.StdEncoding.EncodeToString([]byte("the fingerprint key of all tests"))
	if err := errors.Join(os.MkdirAll(keys, 0o700), os.WriteFile(filepath.Join(keys, "fingerprint"), []byte(key), 0o600)); err != nil {
		t.Fatal(err)
	}
	c := labConfig{
		Folder: folder, GRPC: "127.0.0.1:0", Entra: "127.0.0.1:0", Admin: "127.0.0.1:0", Items: 3,
		SignInTimeout: time.Minute, Types: harnessTypes, Marker: "QQMARKQQ",
		Logger: slog.New(slog.NewJSONHandler(h.said, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, change := range changes {
		change(&c)
	}
	l, err := newLab(ctx, c)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	h.lab = l
	if err := h.lab.simulator.SetCount(groups, 120); err != nil {
		t.Fatal(err)
	}
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- l.run(ctx, func(ctx context.Context) error { close(ready); <-ctx.Done(); return nil })
	}()
	<-ready
	connection, err := grpc.NewClient(l.address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	h.client = understudyv1.NewSyncServiceClient(connection)
	t.Cleanup(func() {
		connection.Close()
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the lab ended with %v", err)
		}
		l.close()
	})
	return h
}

// lockedBuffer is written by many.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// wrong says what goes wrong in the tenant from now on; nothing by default.
func (h *harness) wrong(list ...simulator.Scenario) {
	h.Helper()
	if err := h.lab.simulator.SetScenarios(list...); err != nil {
		h.Fatal(err)
	}
}

// sync runs a sync and returns its story. It demands what holds for every stream:
// a current state first, dense sequences, one `finished` at the end.
func (h *harness) sync(tenant string, spec *understudyv1.SyncSpec, who person) *story {
	h.Helper()
	stream, err := h.client.RunSync(h.ctx, &understudyv1.RunSyncRequest{Parent: "tenants/" + tenant, Spec: spec})
	if err != nil {
		h.Fatal(err)
	}
	s := &story{}
	for first := true; ; first = false {
		response, err := stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.ended = err
			}
			break
		}
		event := response.GetEvent()
		if _, ok := event.GetEvent().(*understudyv1.SyncEvent_CurrentState); ok != first {
			h.Errorf("event %T at the wrong place", event.GetEvent())
		}
		h.take(s, event, who)
	}
	if s.final == nil {
		h.Fatalf("the stream ended without finished: %v\n%s", s.ended, s.text())
	}
	if wrong := s.uncounted(); wrong != "" {
		h.Error(wrong)
	}
	return s
}

func (h *harness) take(s *story, event *understudyv1.SyncEvent, who person) {
	h.Helper()
	switch e := event.GetEvent().(type) {
	case *understudyv1.SyncEvent_AuthenticationPrompt:
		s.prompts++
		h.answer(e.AuthenticationPrompt, who)
		return // the only event that may hold a code
	case *understudyv1.SyncEvent_CurrentState, *understudyv1.SyncEvent_Progress, *understudyv1.SyncEvent_Heartbeat:
	default:
		s.durable = append(s.durable, event)
		if got, want := event.GetSequence(), int64(len(s.durable)); got != want {
			h.Errorf("the event %T has the sequence %d, not %d", e, got, want)
		}
		if f := event.GetFinished(); f != nil {
			s.final = f.GetSync()
		}
	}
	text, err := protojson.Marshal(event)
	if err != nil {
		h.Error(err)
	}
	if _, err := h.said.Write(append(text, '\n')); err != nil {
		h.Error(err)
	}
}

// answer does on the tenant's page what a person does.
func (h *harness) answer(prompt *understudyv1.AuthenticationPrompt, who person) {
	h.Helper()
	if who == nobody {
		return
	}
	client, err := identity.NewHTTPClient(identity.Cloud{CAFile: filepath.Join(h.lab.Folder, "ca.pem")})
	if err != nil {
		h.Fatal(err)
	}
	defer client.CloseIdleConnections()
	form := url.Values{"code": {prompt.GetUserCode()}, "answer": {string(who)}}
	response, err := client.PostForm(prompt.GetVerificationUri(), form)
	if err != nil {
		h.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		h.Fatalf("the sign-in page answered %s", response.Status)
	}
}

// mustSync runs a sync that succeeds.
func (h *harness) mustSync(tenant string, spec *understudyv1.SyncSpec, who person) *story {
	h.Helper()
	s := h.sync(tenant, spec, who)
	if s.final.GetState() != succeeded {
		h.Fatalf("the sync did not succeed:\n%s", s.text())
	}
	return s
}

// changeTenant changes one item of a type of each identity.
func (h *harness) changeTenant() {
	h.Helper()
	err := errors.Join(h.lab.simulator.ChangeItem(groups, 1), h.lab.simulator.ChangeItem("/v1.0/identityGovernance/termsOfUse/agreements", 1))
	if err != nil {
		h.Fatal(err)
	}
}

// forgetSignIns removes the cached sign-ins from the disk.
func (h *harness) forgetSignIns() {
	h.Helper()
	if err := os.RemoveAll(filepath.Join(h.lab.Folder, "data", "tokens")); err != nil {
		h.Fatal(err)
	}
}

// forgetCursors lets the next sync read every type in full.
func (h *harness) forgetCursors() {
	h.Helper()
	forgetCursors(h, h.lab.Folder)
}

// forgetCursors removes where the readings of all tenants of a lab left off.
func forgetCursors(tb testing.TB, folder string) {
	tb.Helper()
	if err := os.RemoveAll(filepath.Join(folder, "data", "cursors")); err != nil {
		tb.Fatal(err)
	}
}

// git runs git in a tenant's repository.
func (h *harness) git(tenant string, args ...string) string {
	h.Helper()
	var stderr bytes.Buffer
	command := exec.CommandContext(h.ctx, "git", append([]string{"-C", h.lab.repository(tenant)}, args...)...)
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		h.Fatalf("git %v: %v: %s", args, err, stderr.String())
	}
	return string(out)
}

// files returns the files of a tenant's backup: path → id of the content.
func (h *harness) files(tenant string) map[string]string {
	h.Helper()
	files := map[string]string{}
	for line := range strings.Lines(h.git(tenant, "ls-tree", "-r", "main")) {
		meta, path, _ := strings.Cut(strings.TrimSpace(line), "\t")
		files[path] = strings.Fields(meta)[2]
	}
	return files
}

// emptyBlob is the id of an empty file.
const emptyBlob = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

// kept demands the first law: a sync that did not read a type completely removes
// and empties no file of it, and changes none of a type that was not read at all.
func (h *harness) kept(before, after map[string]string, s *story) {
	h.Helper()
	untouched := map[string]bool{}
	for _, event := range s.durable {
		r := event.GetConfigurationCompleted().GetResult()
		switch r.GetOutcome() {
		case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_FAILED,
			understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_BACKED_UP,
			understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_NOT_AVAILABLE:
			untouched[r.GetPath()] = true
		}
	}
	for path, id := range before {
		switch now, ok := after[path]; {
		case !ok:
			h.Errorf("%s was removed", path)
		case now == emptyBlob:
			h.Errorf("%s was emptied", path)
		case now != id && untouched[filepath.Dir(path)]:
			h.Errorf("%s was changed though its type was not read", path)
		}
	}
}

// sameAsUndisturbed demands that the backup is the one of a tenant of which every
// sync was well: what went wrong in between left no trace.
func (h *harness) sameAsUndisturbed(tenant string) {
	h.Helper()
	got, want := h.files(tenant), undisturbed(h.T)
	delete(got, "coverage.json") // says since when
	for path, id := range want {
		if got[path] != id {
			h.Errorf("%s differs from an undisturbed backup", path)
		}
		delete(got, path)
	}
	for path := range got {
		h.Errorf("%s is not in an undisturbed backup", path)
	}
}

// undisturbedFiles is that backup; it is the same for every case.
var undisturbedFiles struct {
	once  sync.Once
	files map[string]string
}

// undisturbed returns the files of a backup that nothing disturbed, of the tenant
// after its change.
func undisturbed(t *testing.T) map[string]string {
	t.Helper()
	undisturbedFiles.once.Do(func() {
		h := newHarness(t)
		h.changeTenant()
		h.mustSync("contoso", nil, nobody)
		undisturbedFiles.files = h.files("contoso")
		delete(undisturbedFiles.files, "coverage.json")
	})
	return undisturbedFiles.files
}

// leaksNothing demands that no token, code, secret, password, claims challenge or
// raw text of the provider is in any log, event or file. The simulator marks all
// of them.
func (h *harness) leaksNothing() {
	h.Helper()
	account := h.lab.simulator.Account()
	// A file in base64 begins its secret where three bytes do.
	encoded := base64.StdEncoding.EncodeToString([]byte(account.Marker[:len(account.Marker)/3*3]))
	secrets := []string{account.Marker, encoded, account.ClientSecret, account.Password}
	look := func(where, text string) {
		for _, secret := range secrets {
			if i := strings.Index(text, secret); i >= 0 {
				h.Errorf("%s has %q: …%s…", where, secret, text[max(0, i-80):min(len(text), i+80)])
			}
		}
	}
	look("a log or event", h.said.String())
	for _, tenant := range []string{"contoso", "fabrikam"} {
		if _, err := os.Stat(h.lab.repository(tenant)); err == nil {
			look("the backup of "+tenant, h.git(tenant, "log", "-p", "--all"))
		}
	}
	err := filepath.WalkDir(filepath.Join(h.lab.Folder, "data"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		look(path, string(content))
		return err
	})
	if err != nil {
		h.Error(err)
	}
}
