package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
	"understudy.internal/internal/port/porttest"
)

func open(t testing.TB, directory string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(context.Background(), journal.Config{Directory: directory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

func create(t testing.TB, j *journal.Journal, tenant string) *understudyv1.Sync {
	t.Helper()
	sync, _, err := j.Create(t.Context(), port.CreateRequest{Tenant: tenant, Sync: &understudyv1.Sync{}})
	if err != nil {
		t.Fatal(err)
	}
	return sync
}

func appendAll(t testing.TB, j *journal.Journal, name string, events ...*understudyv1.SyncEvent) {
	t.Helper()
	log, err := j.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Append(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
}

func started() *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Started{Started: &understudyv1.SyncStarted{ConfigurationTypes: []string{"a/b"}}}}
}

func result(i int) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_ConfigurationCompleted{
		ConfigurationCompleted: &understudyv1.ConfigurationCompleted{Result: &understudyv1.ConfigurationResult{
			ConfigurationType: fmt.Sprintf("a/b%d", i), Outcome: understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED,
		}},
	}}
}

func finish(t testing.TB, j *journal.Journal, name string) {
	t.Helper()
	log, err := j.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	sync := log.Sync()
	sync.State = understudyv1.SyncState_SYNC_STATE_SUCCEEDED
	event := &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: sync}}}
	sync.EndTime = sync.GetCreateTime()
	sync.LastSequence++
	if err := log.Append(t.Context(), event); err != nil {
		t.Fatal(err)
	}
}

func drain(t testing.TB, j *journal.Journal, name string, after int64) []*understudyv1.SyncEvent {
	t.Helper()
	w, err := j.Watch(t.Context(), name, after)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var events []*understudyv1.SyncEvent
	for {
		event, err := w.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return events
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, event)
	}
}

func TestLifeAcrossRestart(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	j := open(t, directory)
	sync := create(t, j, "tenants/contoso")
	events := []*understudyv1.SyncEvent{started()}
	for i := range 150 {
		events = append(events, result(i))
	}
	appendAll(t, j, sync.GetName(), events...)
	j.Close()
	j = open(t, directory)
	if got, err := j.Get(t.Context(), sync.GetName()); err != nil || got.GetCounts().GetChanged() != 150 || got.GetLastSequence() != 151 {
		t.Fatalf("after a restart: %v, %v", got, err)
	}
	appendAll(t, j, sync.GetName(), result(150))
	finish(t, j, sync.GetName())
	for range 2 {
		for _, after := range []int64{0, 1, 64, 150, 152, 153} {
			got := drain(t, j, sync.GetName(), after)
			if int64(len(got)) != 153-after+1 || got[0].GetCurrentState() == nil {
				t.Fatalf("after %d: %d events", after, len(got))
			}
			for i, event := range got[1:] {
				if event.GetSequence() != after+int64(i)+1 {
					t.Fatalf("sequence %d at %d after %d", event.GetSequence(), i, after)
				}
			}
		}
		create(t, j, "tenants/other")
		j.Close()
		j = open(t, directory)
		finish(t, j, list(t, j)[0].GetName())
	}
	if got := list(t, j); len(got) != 3 || got[2].GetName() != sync.GetName() {
		t.Fatalf("List = %v", got)
	}
	if _, err := j.Watch(t.Context(), sync.GetName(), 154); !errors.As(err, new(*port.SequenceInFutureError)) {
		t.Fatal(err)
	}
}

func list(t testing.TB, j *journal.Journal) []*understudyv1.Sync {
	t.Helper()
	syncs, err := j.List(t.Context(), "tenants/-", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	return syncs
}

func TestOneSyncPerTenant(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	var (
		group   sync.WaitGroup
		mu      sync.Mutex
		created []string
		refused []string
	)
	for range 200 {
		group.Go(func() {
			s, _, err := j.Create(t.Context(), port.CreateRequest{Tenant: "tenants/contoso", Sync: &understudyv1.Sync{}})
			mu.Lock()
			defer mu.Unlock()
			running := (*port.SyncRunningError)(nil)
			switch {
			case err == nil:
				created = append(created, s.GetName())
			case errors.As(err, &running):
				refused = append(refused, running.Sync)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(created) != 1 {
		t.Fatalf("%d syncs were created", len(created))
	}
	for _, name := range refused {
		if name != created[0] {
			t.Fatalf("refused for %s, running is %s", name, created[0])
		}
	}
}

// A sync sorts behind the tenant's others, also where another process, whose clock is
// ahead, named the last one.
func TestNamesSortByCreation(t *testing.T) {
	t.Parallel()
	j := open(t, t.TempDir())
	last := "tenants/contoso/syncs/" + strings.ToLower(ulid.MustNew(ulid.Timestamp(time.Now().Add(time.Hour)), nil).String())
	if err := j.PutFinished(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		sync := porttest.Create(t, j, "tenants/contoso")
		if sync.GetName() <= last {
			t.Errorf("%s sorts before %s", sync.GetName(), last)
		}
		last = sync.GetName()
		porttest.Finish(t, porttest.Open(t, j, last))
	}
}

func TestRequestID(t *testing.T) {
	directory := t.TempDir()
	j := open(t, directory)
	request := port.CreateRequest{Tenant: "tenants/contoso", Sync: &understudyv1.Sync{}, RequestID: "r", Digest: "d"}
	first, created, err := j.Create(t.Context(), request)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	check := func() {
		t.Helper()
		second, created, err := j.Create(t.Context(), request)
		if err != nil || created || second.GetName() != first.GetName() {
			t.Fatal(second, created, err)
		}
		other := request
		other.Digest = "e"
		if _, _, err := j.Create(t.Context(), other); !errors.As(err, new(*port.RequestIDReusedError)) {
			t.Fatal(err)
		}
	}
	check()
	j.Close()
	j = open(t, directory)
	check()
	finish(t, j, first.GetName())
	check()
}

func TestDirectoryIsTaken(t *testing.T) {
	directory := t.TempDir()
	open(t, directory)
	if _, err := journal.Open(t.Context(), journal.Config{Directory: directory}); err == nil {
		t.Fatal("two journals in one directory")
	}
}

func TestFinishedLogIsClosed(t *testing.T) {
	j := open(t, t.TempDir())
	s := create(t, j, "tenants/contoso")
	log, err := j.Open(t.Context(), s.GetName())
	if err != nil {
		t.Fatal(err)
	}
	finish(t, j, s.GetName())
	if err := log.Append(t.Context(), started()); !errors.As(err, new(*port.FencedError)) {
		t.Fatal(err)
	}
	if _, err := j.Open(t.Context(), s.GetName()); !errors.As(err, new(*port.FencedError)) {
		t.Fatal(err)
	}
	got, err := j.Get(t.Context(), s.GetName())
	if err != nil || !proto.Equal(got, drain(t, j, s.GetName(), 0)[1].GetFinished().GetSync()) {
		t.Fatal(got, err)
	}
	create(t, j, "tenants/contoso")
}
