package edge

import (
	"bytes"
	"context"
	"io"
	"iter"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	contoso = "tenants/contoso"
	syncA   = "tenants/contoso/syncs/01a"
	// marker is text that must not leave the process.
	marker = "MARKER-s3cr3t"
)

// fakeEngine answers with what a test puts in.
type fakeEngine struct {
	start   func(context.Context, engine.StartRequest) (*understudyv1.Sync, error)
	retry   func(context.Context, engine.RetryRequest) (*understudyv1.Sync, error)
	cancel  func(context.Context, string) (*understudyv1.Sync, error)
	changes func(context.Context, string, string) iter.Seq2[*understudyv1.ItemChange, error]
}

func (f *fakeEngine) Start(ctx context.Context, r engine.StartRequest) (*understudyv1.Sync, error) {
	return f.start(ctx, r)
}

func (f *fakeEngine) Retry(ctx context.Context, r engine.RetryRequest) (*understudyv1.Sync, error) {
	return f.retry(ctx, r)
}

func (f *fakeEngine) Cancel(ctx context.Context, name string) (*understudyv1.Sync, error) {
	return f.cancel(ctx, name)
}

func (f *fakeEngine) Changes(ctx context.Context, name, id string) iter.Seq2[*understudyv1.ItemChange, error] {
	return f.changes(ctx, name, id)
}

// fakeJournal holds the log of syncA, and a list of syncs. Its watchers follow
// the rules of port.Watcher.
type fakeJournal struct {
	port.Syncs // what the edge does not use panics
	mu         sync.Mutex
	sync       *understudyv1.Sync
	events     []*understudyv1.SyncEvent
	ephemeral  []*understudyv1.SyncEvent // since the last durable event
	changed    chan struct{}
	open       int // watchers
	list       []*understudyv1.Sync
	// fail is returned by everything, failNext by Next after current_state.
	fail, failNext error
	panicNext      bool
}

func newFakeJournal() *fakeJournal {
	return &fakeJournal{
		sync:    &understudyv1.Sync{Name: syncA, State: understudyv1.SyncState_SYNC_STATE_RUNNING},
		changed: make(chan struct{}),
	}
}

func (j *fakeJournal) signal() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// append adds durable events; the last may finish the sync.
func (j *fakeJournal) append(events ...*understudyv1.SyncEvent) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, event := range events {
		event.Sequence = int64(len(j.events)) + 1
		j.events = append(j.events, event)
		j.sync.LastSequence = event.GetSequence()
		if finished := event.GetFinished(); finished != nil {
			finished.Sync.LastSequence = event.GetSequence()
			j.sync = finished.GetSync()
		}
	}
	j.signal()
}

// publish gives an ephemeral event to every watcher.
func (j *fakeJournal) publish(event *understudyv1.SyncEvent) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ephemeral = append(j.ephemeral, event)
	j.signal()
}

func (j *fakeJournal) watchers() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.open
}

func (j *fakeJournal) Get(_ context.Context, name string) (*understudyv1.Sync, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return nil, j.fail
	}
	if name != syncA {
		return nil, &port.NotFoundError{Resource: name}
	}
	return proto.CloneOf(j.sync), nil
}

func (j *fakeJournal) Events(_ context.Context, name string, after int64) iter.Seq2[*understudyv1.SyncEvent, error] {
	return func(yield func(*understudyv1.SyncEvent, error) bool) {
		if j.fail != nil {
			yield(nil, j.fail)
			return
		}
		if name != syncA {
			yield(nil, &port.NotFoundError{Resource: name})
			return
		}
		for _, event := range j.events {
			if event.GetSequence() > after && !yield(event, nil) {
				return
			}
		}
	}
}

func (j *fakeJournal) List(_ context.Context, parent, before string, limit int) ([]*understudyv1.Sync, error) {
	if j.fail != nil {
		return nil, j.fail
	}
	var found []*understudyv1.Sync
	for _, s := range j.list {
		if engine.TenantOf(s.GetName()) != parent && parent != "tenants/-" {
			continue
		}
		if (before == "" || s.GetName() < before) && len(found) < limit {
			found = append(found, s)
		}
	}
	if len(found) > 2 {
		found = found[:len(found)-1] // an answer may be short
	}
	return found, nil
}

func (j *fakeJournal) Watch(_ context.Context, name string, after int64) (port.Watcher, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.fail != nil:
		return nil, j.fail
	case name != syncA:
		return nil, &port.NotFoundError{Resource: name}
	case after > int64(len(j.events)):
		return nil, &port.SequenceInFutureError{After: after, Last: int64(len(j.events))}
	}
	j.open++
	return &fakeWatcher{j: j, cursor: after, seen: len(j.ephemeral)}, nil
}

type fakeWatcher struct {
	j       *fakeJournal
	started bool
	over    bool
	cursor  int64
	seen    int
}

func (w *fakeWatcher) Next(ctx context.Context) (*understudyv1.SyncEvent, error) {
	for {
		event, changed, err := w.poll()
		if event != nil || err != nil {
			return event, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (w *fakeWatcher) poll() (*understudyv1.SyncEvent, <-chan struct{}, error) {
	w.j.mu.Lock()
	defer w.j.mu.Unlock()
	switch {
	case !w.started:
		w.started = true
		w.over = w.j.sync.GetEndTime() != nil && w.j.sync.GetLastSequence() == w.cursor
		return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_CurrentState{
			CurrentState: &understudyv1.CurrentState{Sync: proto.CloneOf(w.j.sync)},
		}}, nil, nil
	case w.over:
		return nil, nil, io.EOF
	case w.j.panicNext:
		panic(marker)
	case w.j.failNext != nil:
		return nil, nil, w.j.failNext
	case w.cursor < int64(len(w.j.events)):
		event := w.j.events[w.cursor]
		w.cursor++
		w.over = event.GetFinished() != nil
		return event, nil, nil
	case w.seen < len(w.j.ephemeral):
		w.seen++
		return w.j.ephemeral[w.seen-1], nil, nil
	}
	return nil, w.j.changed, nil
}

func (w *fakeWatcher) Close() {
	w.j.mu.Lock()
	defer w.j.mu.Unlock()
	w.j.open--
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu      sync.Mutex
	content bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.String()
}

// fakeCatalog is a list of types.
type fakeCatalog []*catalog.Type

func (c fakeCatalog) Types() []*catalog.Type { return c }

func (c fakeCatalog) Get(id string) (*catalog.Type, bool) {
	for _, t := range c {
		if t.ID == id {
			return t, true
		}
	}
	return nil, false
}

// fixture is a server on bufconn with fakes behind it.
type fixture struct {
	engine  *fakeEngine
	journal *fakeJournal
	server  *Server
	lis     *bufconn.Listener
	conn    *grpc.ClientConn
	client  understudyv1.SyncServiceClient
	// stop ends Serve's context, wait waits for Serve.
	stop context.CancelFunc
	wait func() error
}

// serve starts a server. change may change its configuration.
func serve(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{
		engine: &fakeEngine{
			start: func(context.Context, engine.StartRequest) (*understudyv1.Sync, error) {
				return &understudyv1.Sync{Name: syncA}, nil
			},
			retry: func(context.Context, engine.RetryRequest) (*understudyv1.Sync, error) {
				return &understudyv1.Sync{Name: syncA}, nil
			},
			cancel: func(context.Context, string) (*understudyv1.Sync, error) {
				return &understudyv1.Sync{Name: syncA}, nil
			},
			changes: func(context.Context, string, string) iter.Seq2[*understudyv1.ItemChange, error] {
				return func(func(*understudyv1.ItemChange, error) bool) {}
			},
		},
		journal: newFakeJournal(),
		lis:     bufconn.Listen(1 << 20),
	}
	config := Config{
		Engine: f.engine, Syncs: f.journal, Watches: f.journal,
		Catalog: fakeCatalog{{ID: "entra/b", Version: "v1.0", Path: "/b"}, {ID: "entra/a", Version: "v1.0", Path: "/a"}},
	}
	for _, c := range change {
		c(&config)
	}
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	f.server = server
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, f.lis) }()
	f.wait = sync.OnceValue(func() error { return <-done })
	f.conn = f.dial(t)
	f.client = understudyv1.NewSyncServiceClient(f.conn)
	t.Cleanup(func() {
		f.conn.Close()
		f.stop()
		if err := f.wait(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return f
}

// dial makes a connection of its own.
func (f *fixture) dial(t testing.TB, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///bufconn", append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return f.lis.DialContext(ctx) }),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// detail returns the detail of a type in the status of an error.
func detail[T proto.Message](err error) T {
	var none T
	for _, d := range status.Convert(err).Details() {
		if found, ok := d.(T); ok {
			return found
		}
	}
	return none
}

// reason returns the reason in the ErrorInfo of an error.
func reason(err error) string { return detail[*errdetails.ErrorInfo](err).GetReason() }

// diff compares messages.
func diff(want, got any) string { return cmp.Diff(want, got, protocmp.Transform()) }

// until polls a condition until the test's deadline.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain for: " + what)
		}
	}
}

// durable makes a durable event about a configuration type.
func durable(id string) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{
		EventTime: timestamppb.Now(),
		Event: &understudyv1.SyncEvent_ConfigurationCompleted{ConfigurationCompleted: &understudyv1.ConfigurationCompleted{
			Result: &understudyv1.ConfigurationResult{
				ConfigurationType: id, Outcome: understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED,
			},
		}},
	}
}

// finished makes the last event of a sync.
func finished(state understudyv1.SyncState, change ...func(*understudyv1.Sync)) *understudyv1.SyncEvent {
	s := &understudyv1.Sync{Name: syncA, State: state, EndTime: timestamppb.Now()}
	for _, c := range change {
		c(s)
	}
	return &understudyv1.SyncEvent{
		EventTime: timestamppb.Now(),
		Event:     &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: s}},
	}
}

// progress makes an ephemeral event.
func progress(items int64) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{
		EventTime: timestamppb.Now(),
		Event:     &understudyv1.SyncEvent_Progress{Progress: &understudyv1.Progress{ItemsRead: items}},
	}
}
