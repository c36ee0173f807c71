package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
	"understudy.internal/internal/port/porttest"
)

// dense fails unless the events of a sync have no gap and no duplicate.
func dense(t *testing.T, j *journal.Journal, name string) []*understudyv1.SyncEvent {
	t.Helper()
	var events []*understudyv1.SyncEvent
	for event, err := range j.Events(t.Context(), name, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if event.GetSequence() != int64(len(events)+1) {
			t.Fatalf("sequence %d after %d events", event.GetSequence(), len(events))
		}
		events = append(events, event)
	}
	return events
}

// TestStorageStopsAndReturns: what cannot be stored is refused, health says so, and
// afterwards everything goes on, in the same process.
func TestStorageStopsAndReturns(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	j := open(t, directory)
	sync := create(t, j, "tenants/contoso")
	log := porttest.Open(t, j, sync.GetName())
	porttest.Append(t, log, started())
	watcher, err := j.Watch(t.Context(), sync.GetName(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	if _, err := watcher.Next(t.Context()); err != nil {
		t.Fatal(err)
	}

	if err := j.StopStorage(); err != nil {
		t.Fatal(err)
	}
	storage := (*port.StorageError)(nil)
	if err := log.Append(t.Context(), result(1)); !errors.As(err, &storage) {
		t.Errorf("Append = %v", err)
	}
	if _, _, err := j.Create(t.Context(), port.CreateRequest{Tenant: "tenants/fabrikam", Sync: &understudyv1.Sync{}}); !errors.As(err, &storage) {
		t.Errorf("Create = %v", err)
	}
	if err := j.Healthy(); !errors.As(err, &storage) {
		t.Errorf("Healthy = %v", err)
	}
	if got, err := j.Get(t.Context(), sync.GetName()); err != nil || got.GetLastSequence() != 1 {
		t.Errorf("Get = %v, %v", got, err)
	}

	if err := j.RestartStorage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := j.Healthy(); err != nil {
		t.Errorf("Healthy = %v", err)
	}
	porttest.Append(t, log, result(2))
	if event, err := watcher.Next(t.Context()); err != nil || event.GetSequence() != 2 {
		t.Errorf("the watcher got %v, %v", event, err)
	}
	create(t, j, "tenants/fabrikam")
	before := dense(t, j, sync.GetName())
	j.Close()
	j = open(t, directory)
	for i, event := range dense(t, j, sync.GetName()) {
		if !proto.Equal(event, before[i]) {
			t.Errorf("event %d is another one after a restart:\n%v\n%v", i+1, before[i], event)
		}
	}
	if unfinished, err := j.Unfinished(t.Context()); err != nil || len(unfinished) != 2 {
		t.Errorf("unfinished = %v, %v", unfinished, err)
	}
}

// TestFullStorage: as on a full disk.
func TestFullStorage(t *testing.T) {
	t.Parallel()
	j, err := journal.Open(t.Context(), journal.Config{Directory: t.TempDir(), MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	sync := create(t, j, "tenants/contoso")
	log := porttest.Open(t, j, sync.GetName())
	storage := (*port.StorageError)(nil)
	stored := 0
	for ; err == nil && stored < 100; stored++ {
		event := result(stored)
		event.GetConfigurationCompleted().GetResult().Path = strings.Repeat("x", 50_000)
		err = log.Append(t.Context(), event)
	}
	if !errors.As(err, &storage) {
		t.Fatalf("after %d events: %v", stored, err)
	}
	if got := len(dense(t, j, sync.GetName())); got != stored-1 {
		t.Errorf("%d events of %d", got, stored-1)
	}
	if err := j.Healthy(); err == nil {
		t.Error("it says that it is healthy")
	}
}

// TestUnansweredEvents: events that were stored though nobody answered are in the
// log, once, before the next ones.
func TestUnansweredEvents(t *testing.T) {
	t.Parallel()
	large := func(i int) *understudyv1.SyncEvent {
		event := result(i)
		event.GetConfigurationCompleted().GetResult().Path = strings.Repeat("x", 300<<10)
		return event
	}
	for name, batch := range map[string][]*understudyv1.SyncEvent{
		"one": {result(1)}, "a batch": {result(1), result(2), result(3)}, "several messages": {large(1), large(2), large(3)},
	} {
		t.Run(name, func(t *testing.T) {
			j := open(t, t.TempDir())
			sync := create(t, j, "tenants/contoso")
			log := porttest.Open(t, j, sync.GetName())
			porttest.Append(t, log, started())
			if err := j.LoseAnswer(t.Context(), sync.GetName(), log, batch...); err != nil {
				t.Fatal(err)
			}
			porttest.Finish(t, log)
			if got := dense(t, j, sync.GetName()); len(got) != len(batch)+2 {
				t.Errorf("%d events", len(got))
			}
			create(t, j, "tenants/contoso")
		})
	}
}

// TestTooManyAtOnce: all or none.
func TestTooManyAtOnce(t *testing.T) {
	j := open(t, t.TempDir())
	log := porttest.Open(t, j, create(t, j, "tenants/contoso").GetName())
	events := make([]*understudyv1.SyncEvent, 1001)
	for i := range events {
		events[i] = result(i)
	}
	if err := log.Append(t.Context(), events...); err == nil {
		t.Error("1001 events were stored")
	}
	porttest.Append(t, log, events[:1000]...)
	if got := log.Sync().GetLastSequence(); got != 1000 {
		t.Errorf("last_sequence = %d", got)
	}
}

func FuzzApply(f *testing.F) {
	for _, event := range []*understudyv1.SyncEvent{
		started(), result(1),
		{},
		{Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{}}},
		{Event: &understudyv1.SyncEvent_AuthenticationFailed{}},
	} {
		data, err := proto.Marshal(event)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(nil), data)
	}
	f.Fuzz(func(t *testing.T, syncData, eventData []byte) {
		sync, event := &understudyv1.Sync{}, &understudyv1.SyncEvent{}
		if proto.Unmarshal(syncData, sync) != nil || proto.Unmarshal(eventData, event) != nil {
			return
		}
		before := proto.CloneOf(sync)
		next := journal.Apply(sync, event)
		if next.GetLastSequence() != event.GetSequence() {
			t.Errorf("last_sequence = %d, want %d", next.GetLastSequence(), event.GetSequence())
		}
		if !proto.Equal(sync, before) {
			t.Error("the argument was changed")
		}
		journal.Apply(nil, event)
	})
}

// TestOpenFindsOut: an append that nobody answered is known to whoever opens the log
// afterwards, and known as well to nobody who opened it before.
func TestOpenFindsOut(t *testing.T) {
	snapshot := &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_SnapshotCommitted{
		SnapshotCommitted: &understudyv1.SnapshotCommitted{Snapshot: &understudyv1.Snapshot{Commit: "c"}},
	}}
	j := open(t, t.TempDir())
	name := create(t, j, "tenants/contoso").GetName()
	log, other := porttest.Open(t, j, name), porttest.Open(t, j, name)
	if err := j.LoseAnswer(t.Context(), name, log, snapshot); err != nil {
		t.Fatal(err)
	}
	if got := porttest.Open(t, j, name).Sync().GetSnapshot().GetCommit(); got != "c" {
		t.Errorf("the log was opened without its last event: the snapshot is %q", got)
	}
	if err := other.Append(t.Context(), result(1)); !errors.As(err, new(*port.FencedError)) {
		t.Errorf("another writer appends behind what it does not know: %v", err)
	}
	// The end, too.
	final := &understudyv1.SyncEvent{
		EventTime: log.Sync().GetCreateTime(), Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: log.Sync()}},
	}
	log = porttest.Open(t, j, name)
	if err := j.LoseAnswer(t.Context(), name, log, final); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Open(t.Context(), name); !errors.As(err, new(*port.FencedError)) {
		t.Errorf("Open = %v", err)
	}
	create(t, j, "tenants/contoso")
}

// TestAnotherWriterInTheStream: what this process has not heard of yet is found when
// it appends.
func TestAnotherWriterInTheStream(t *testing.T) {
	t.Parallel()
	cancelling := porttest.State(understudyv1.SyncState_SYNC_STATE_CANCELLING, "")
	for name, test := range map[string]struct {
		foreign, mine *understudyv1.SyncEvent
		fenced        bool
	}{
		"a takeover":                             {porttest.State(understudyv1.SyncState_SYNC_STATE_RUNNING, "b"), result(1), true},
		"a cancellation":                         {cancelling, result(1), false},
		"a result, before a result":              {result(2), result(1), true},
		"a result, before a cancellation":        {result(2), cancelling, false},
		"a takeover, before a cancellation":      {porttest.State(understudyv1.SyncState_SYNC_STATE_RUNNING, "b"), cancelling, false},
		"a takeover, before another one of them": {porttest.State(understudyv1.SyncState_SYNC_STATE_RUNNING, "b"), porttest.State(understudyv1.SyncState_SYNC_STATE_RUNNING, "c"), true},
	} {
		t.Run(name, func(t *testing.T) {
			j := open(t, t.TempDir())
			sync := create(t, j, "tenants/contoso").GetName()
			log := porttest.Open(t, j, sync)
			porttest.Append(t, log, porttest.Take("a"))
			if err := j.LoseAnswer(t.Context(), sync, nil, proto.CloneOf(test.foreign)); err != nil {
				t.Fatal(err)
			}
			err := log.Append(t.Context(), proto.CloneOf(test.mine))
			if fenced := errors.As(err, new(*port.FencedError)); fenced != test.fenced || (err != nil && !fenced) {
				t.Errorf("Append = %v", err)
			}
			want := 3
			if test.fenced {
				want = 2
			}
			if got := len(dense(t, j, sync)); got != want {
				t.Errorf("%d events, want %d", got, want)
			}
		})
	}
}

// TestUnwritableStorage: an engine that does not store, and could not start again, stays
// to be read.
func TestUnwritableStorage(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	directory, away := filepath.Join(parent, "journal"), filepath.Join(parent, "away")
	j := open(t, directory)
	name := create(t, j, "tenants/contoso").GetName()
	finish(t, j, name)
	for range 2 {
		// Who is root may write into every directory, but not into one that is not there.
		if err := os.Rename(directory, away); err != nil {
			t.Fatal(err)
		}
		if err := j.RestartStorage(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be written") {
			t.Errorf("RestartStorage = %v", err)
		}
		if err := os.Rename(away, directory); err != nil {
			t.Fatal(err)
		}
		if got := len(drain(t, j, name, 0)); got != 2 { // current_state, finished
			t.Errorf("%d events are read", got)
		}
	}
	if err := j.RestartStorage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(drain(t, j, name, 0)); got != 2 {
		t.Errorf("%d events are read after a restart", got)
	}
	create(t, j, "tenants/contoso")
	entries, err := os.ReadDir(directory)
	if err != nil || len(entries) != 2 {
		t.Errorf("in the directory: %v, %v", entries, err)
	}
}
