package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
)

// These tests resume streams over the real journal.

// failing is what both testing.T and rapid.T can do.
type failing interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// openJournal opens a journal that ends with the test.
func openJournal(t testing.TB, directory string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(context.Background(), journal.Config{Directory: directory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

// overJournal puts a journal behind the edge, and makes streams beat so fast that
// a test sees it.
func overJournal(j *journal.Journal) func(*Config) {
	return func(c *Config) { c.Syncs, c.Watches, c.HeartbeatDefault = j, j, time.Millisecond }
}

// script writes the log of one sync.
type script struct {
	t    failing
	log  port.Log
	name string
	next int
}

// newScript starts a sync of a tenant.
func newScript(t failing, j *journal.Journal, tenant string) *script {
	t.Helper()
	sync, _, err := j.Create(context.Background(), port.CreateRequest{Tenant: tenant, Sync: &understudyv1.Sync{}})
	if err != nil {
		t.Fatal(err)
	}
	return openScript(t, j, sync.GetName())
}

// openScript goes on with the log of a sync.
func openScript(t failing, j *journal.Journal, name string) *script {
	t.Helper()
	log, err := j.Open(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return &script{t: t, log: log, name: name}
}

// append stores events about further types, in one batch.
func (s *script) append(count int) {
	s.t.Helper()
	var events []*understudyv1.SyncEvent
	for range count {
		events = append(events, durable(fmt.Sprintf("entra/t%d", s.next)))
		s.next++
	}
	s.store(events...)
}

// prompt publishes that a person must sign in.
func (s *script) prompt() {
	s.log.Publish(&understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_AuthenticationPrompt{
		AuthenticationPrompt: &understudyv1.AuthenticationPrompt{
			UserCode: "ABCD", ExpireTime: timestamppb.New(time.Now().Add(time.Hour)),
		},
	}})
}

// finish ends the sync.
func (s *script) finish() {
	s.t.Helper()
	sync := s.log.Sync()
	sync.State, sync.EndTime = understudyv1.SyncState_SYNC_STATE_SUCCEEDED, timestamppb.Now()
	sync.LastSequence++
	s.store(&understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: sync}}})
}

func (s *script) store(events ...*understudyv1.SyncEvent) {
	s.t.Helper()
	if err := s.log.Append(context.Background(), events...); err != nil {
		s.t.Fatal(err)
	}
}

// reader is a client that resumes as the contract says.
type reader struct {
	f      *fixture
	name   string
	cursor int64
	log    []*understudyv1.SyncEvent
	over   bool
	// kinds are the kinds of events that were received.
	kinds map[string]bool
}

func newReader(f *fixture, name string) *reader {
	return &reader{f: f, name: name, kinds: map[string]bool{}}
}

// read resumes, receives at most limit messages, and leaves. It checks every
// promise of SyncEvent.
func (r *reader) read(t failing, limit int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := r.f.client.WatchSync(ctx, &understudyv1.WatchSyncRequest{Name: r.name, AfterSequence: r.cursor})
	if err != nil {
		t.Fatal(err)
	}
	for i := range limit {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if !r.over {
				t.Fatalf("the stream ended with OK, but the client does not know that the sync is over: %v", r.log)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		r.take(t, response.GetEvent(), i == 0)
	}
}

// take takes one event.
func (r *reader) take(t failing, event *understudyv1.SyncEvent, first bool) {
	t.Helper()
	r.kinds[strings.TrimPrefix(fmt.Sprintf("%T", event.GetEvent()), "*understudyv1.SyncEvent_")] = true
	current := event.GetCurrentState()
	if first != (current != nil) {
		t.Fatalf("current_state must be first and only first: %v", event)
	}
	if r.over && current == nil {
		t.Fatalf("after the end: %v", event)
	}
	switch event.GetEvent().(type) {
	case *understudyv1.SyncEvent_CurrentState:
		r.over = terminal(current.GetSync().GetState()) && current.GetSync().GetLastSequence() == r.cursor
	case *understudyv1.SyncEvent_AuthenticationPrompt, *understudyv1.SyncEvent_Progress, *understudyv1.SyncEvent_Heartbeat:
	default:
		r.cursor++
		r.log = append(r.log, event)
		r.over = event.GetFinished() != nil
	}
	if event.GetSequence() != r.cursor {
		t.Fatalf("sequence %d where the client has %d: %v", event.GetSequence(), r.cursor, event)
	}
}

// isWhole checks that the union of what was received is the log, each event once,
// and that a client that asks again is told that the sync is over.
func (r *reader) isWhole(t failing, j *journal.Journal) {
	t.Helper()
	var want []*understudyv1.SyncEvent
	for event, err := range j.Events(context.Background(), r.name, 0) {
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, event)
	}
	if d := diff(want, r.log); d != "" {
		t.Fatal(d)
	}
	if !r.over {
		t.Fatal("the client does not know that the sync is over")
	}
	r.over = false
	r.read(t, 2) // one current_state, and OK
	if !r.over || len(r.log) != len(want) {
		t.Fatalf("asked again, the client was told %v", r.log[len(want):])
	}
}

// The stream of a sync that runs is cut after every single message; what the
// client resumes with is cut after every single message too.
func TestResumeAfterEveryMessage(t *testing.T) {
	j := openJournal(t, t.TempDir())
	f := serve(t, overJournal(j))
	const running, rest = 9, 7
	clients := map[int]*reader{}
	s := newScript(t, j, contoso)
	s.append(3)
	s.prompt()
	s.log.Publish(progress(7))
	for first := 1; first <= running; first++ {
		clients[first] = newReader(f, s.name)
		clients[first].read(t, first)
	}
	s.append(2)
	s.finish()
	kinds := map[string]bool{}
	for first, client := range clients {
		for second := 1; second <= rest; second++ {
			r := newReader(f, s.name)
			r.cursor, r.log = client.cursor, client.log[:len(client.log):len(client.log)]
			r.read(t, second)
			for round := 0; !r.over; round++ {
				if round > 10 {
					t.Fatalf("cut after %d and %d messages: no end", first, second)
				}
				r.read(t, 3)
			}
			r.isWhole(t, j)
			for kind := range r.kinds {
				kinds[kind] = true
			}
		}
		for kind := range client.kinds {
			kinds[kind] = true
		}
	}
	for _, kind := range []string{
		"CurrentState", "AuthenticationPrompt", "Progress", "Heartbeat", "ConfigurationCompleted", "Finished",
	} {
		if !kinds[kind] {
			t.Errorf("no stream was cut around %s", kind)
		}
	}
}

// However writing, cutting and resuming mix: the union is the log.
func TestResumeAnyhow(t *testing.T) {
	j := openJournal(t, t.TempDir())
	f := serve(t, overJournal(j))
	tenants := 0
	rapid.Check(t, func(t *rapid.T) {
		tenants++
		s := newScript(t, j, fmt.Sprintf("tenants/t%d", tenants))
		r := newReader(f, s.name)
		// Each append costs a write to the disk: few steps, many runs.
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"append", "progress", "prompt", "read", "read"}).Draw(t, "step") {
			case "append":
				s.append(rapid.IntRange(1, 4).Draw(t, "events"))
			case "progress":
				s.log.Publish(progress(1))
			case "prompt":
				s.prompt()
			case "read":
				r.read(t, rapid.IntRange(1, 8).Draw(t, "messages"))
			}
		}
		s.finish()
		for range 100 {
			if r.over {
				break
			}
			r.read(t, rapid.IntRange(2, 5).Draw(t, "messages"))
		}
		r.isWhole(t, j)
	})
}

// A client resumes on another process that opened the same journal.
func TestResumeAfterRestart(t *testing.T) {
	directory := t.TempDir()
	j := openJournal(t, directory)
	f := serve(t, overJournal(j))
	s := newScript(t, j, contoso)
	s.append(3)
	r := newReader(f, s.name)
	r.read(t, 3)
	f.conn.Close()
	f.stop()
	if err := f.wait(); err != nil {
		t.Fatal(err)
	}
	j.Close()

	j = openJournal(t, directory)
	r.f = serve(t, overJournal(j))
	r.read(t, 4)
	s = openScript(t, j, r.name)
	s.append(1)
	s.finish()
	for range 3 {
		r.read(t, 3)
	}
	r.isWhole(t, j)
}

// A cursor that lies in the future is refused, while the sync runs and when it is
// over, and nothing is lost by it.
func TestCursorInTheFuture(t *testing.T) {
	j := openJournal(t, t.TempDir())
	f := serve(t, overJournal(j))
	s := newScript(t, j, contoso)
	s.append(3)
	r := newReader(f, s.name)
	r.read(t, 4)
	refused := func(after int64, last string) {
		t.Helper()
		stream, err := f.client.WatchSync(t.Context(), &understudyv1.WatchSyncRequest{Name: s.name, AfterSequence: after})
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		if status.Code(err) != codes.OutOfRange ||
			reason(err) != understudyv1.ErrorReason_ERROR_REASON_SEQUENCE_IN_FUTURE.String() ||
			detail[*errdetails.ErrorInfo](err).GetMetadata()["lastSequence"] != last {
			t.Errorf("after %d: %v", after, err)
		}
	}
	refused(4, "3")
	refused(1<<62, "3")
	s.finish()
	refused(5, "4")
	r.read(t, 3)
	r.isWhole(t, j)
}
