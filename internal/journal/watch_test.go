package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
	"understudy.internal/internal/port/porttest"
)

func prompt(code string, valid time.Duration) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_AuthenticationPrompt{
		AuthenticationPrompt: &understudyv1.AuthenticationPrompt{UserCode: code, ExpireTime: timestamppb.New(time.Now().Add(valid))},
	}}
}

func progress(items int64) *understudyv1.SyncEvent {
	return &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Progress{Progress: &understudyv1.Progress{ItemsRead: items}}}
}

// kinds says each event in a word.
func kinds(events []*understudyv1.SyncEvent) []string {
	var words []string
	for _, event := range events {
		switch e := event.GetEvent().(type) {
		case *understudyv1.SyncEvent_CurrentState:
			words = append(words, "state")
		case *understudyv1.SyncEvent_AuthenticationPrompt:
			words = append(words, "prompt "+e.AuthenticationPrompt.GetUserCode())
		case *understudyv1.SyncEvent_Progress:
			words = append(words, fmt.Sprintf("progress %d", e.Progress.GetItemsRead()))
		default:
			words = append(words, fmt.Sprint(event.GetSequence()))
		}
	}
	return words
}

// TestEphemeralEvents: what late watchers see of prompts and progress.
func TestEphemeralEvents(t *testing.T) {
	withdrawn := prompt("", 0)
	for name, test := range map[string]struct {
		publish []*understudyv1.SyncEvent
		want    []string
	}{
		"an open prompt comes before history": {
			publish: []*understudyv1.SyncEvent{progress(1), prompt("A", time.Hour)}, want: []string{"state", "prompt A", "1", "2", "3"},
		},
		"a prompt that expired is over": {
			publish: []*understudyv1.SyncEvent{prompt("A", -time.Second)}, want: []string{"state", "1", "2", "3"},
		},
		"a prompt that was answered is over": {
			publish: []*understudyv1.SyncEvent{prompt("A", time.Hour), withdrawn}, want: []string{"state", "1", "2", "3"},
		},
		"a later prompt replaces an earlier one": {
			publish: []*understudyv1.SyncEvent{prompt("A", time.Hour), prompt("B", time.Hour)},
			want:    []string{"state", "prompt B", "1", "2", "3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := open(t, t.TempDir())
			sync := create(t, j, "tenants/contoso")
			log := porttest.Open(t, j, sync.GetName())
			porttest.Append(t, log, started(), result(1))
			for _, event := range test.publish {
				log.Publish(event)
			}
			watcher, err := j.Watch(t.Context(), sync.GetName(), 0)
			if err != nil {
				t.Fatal(err)
			}
			defer watcher.Close()
			porttest.Finish(t, log)
			if diff := cmp.Diff(test.want, kinds(rest(t, watcher))); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a slow watcher gets the last progress only", func(t *testing.T) {
		j := open(t, t.TempDir())
		log := porttest.Open(t, j, create(t, j, "tenants/contoso").GetName())
		watcher, err := j.Watch(t.Context(), log.Sync().GetName(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer watcher.Close()
		for i := range int64(100) {
			log.Publish(progress(i))
		}
		got := []*understudyv1.SyncEvent{next(t, watcher), next(t, watcher)}
		if diff := cmp.Diff([]string{"state", "progress 99"}, kinds(got)); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func next(t *testing.T, watcher port.Watcher) *understudyv1.SyncEvent {
	t.Helper()
	event, err := watcher.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return event
}

// rest returns what a watcher sees until the end.
func rest(t *testing.T, watcher port.Watcher) []*understudyv1.SyncEvent {
	t.Helper()
	var events []*understudyv1.SyncEvent
	for {
		event, err := watcher.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return events
		}
		if err != nil {
			t.Error(err)
			return events
		}
		events = append(events, event)
	}
}

// TestManyWatchers: each sees each durable event once and in order, wherever it
// begins, while they are written.
func TestManyWatchers(t *testing.T) {
	j := open(t, t.TempDir())
	log := porttest.Open(t, j, create(t, j, "tenants/contoso").GetName())
	name := log.Sync().GetName()
	var watchers sync.WaitGroup
	for i := range 50 {
		after := int64(i % 5)
		porttest.Append(t, log, result(i))
		if i < 5 {
			continue // after_sequence has to exist
		}
		watchers.Go(func() {
			watcher, err := j.Watch(t.Context(), name, after)
			if err != nil {
				t.Error(err)
				return
			}
			defer watcher.Close()
			last := after
			for _, event := range rest(t, watcher) {
				if event.GetSequence() == 0 {
					continue
				}
				if event.GetSequence() != last+1 {
					t.Errorf("%d after %d", event.GetSequence(), last)
				}
				last = event.GetSequence()
			}
			if last != 51 {
				t.Errorf("the last event was %d", last)
			}
		})
		log.Publish(progress(int64(i)))
	}
	porttest.Finish(t, log)
	watchers.Wait()
}

// TestFinishedMeansFree: who sees `finished` can start the next sync of the tenant.
func TestFinishedMeansFree(t *testing.T) {
	j := open(t, t.TempDir())
	for range 50 {
		running := create(t, j, "tenants/contoso")
		watcher, err := j.Watch(t.Context(), running.GetName(), 0)
		if err != nil {
			t.Fatal(err)
		}
		var finishing sync.WaitGroup
		finishing.Go(func() { porttest.Finish(t, porttest.Open(t, j, running.GetName())) })
		rest(t, watcher)
		watcher.Close()
		create(t, j, "tenants/contoso")
		finishing.Wait()
		unfinished, err := j.Unfinished(t.Context())
		if err != nil || len(unfinished) != 1 {
			t.Fatalf("unfinished = %v, %v", unfinished, err)
		}
		porttest.Finish(t, porttest.Open(t, j, unfinished[0].Sync))
	}
}

// TestCloseEndsWatches: nobody waits for a journal that is gone.
func TestCloseEndsWatches(t *testing.T) {
	j := open(t, t.TempDir())
	watcher, err := j.Watch(t.Context(), create(t, j, "tenants/contoso").GetName(), 0)
	if err != nil {
		t.Fatal(err)
	}
	next(t, watcher)
	ended := make(chan error, 1)
	go func() {
		_, err := watcher.Next(context.Background())
		ended <- err
	}()
	j.Close()
	if err := <-ended; !errors.As(err, new(*port.StorageError)) {
		t.Errorf("Next = %v", err)
	}
}

// TestWatchAcrossRestart: a watcher that resumes on the restarted journal gets the
// same events.
func TestWatchAcrossRestart(t *testing.T) {
	directory := t.TempDir()
	j := open(t, directory)
	sync := create(t, j, "tenants/contoso")
	porttest.Append(t, porttest.Open(t, j, sync.GetName()), started(), result(1), result(2))
	before := dense(t, j, sync.GetName())
	j.Close()
	j = open(t, directory)
	watcher, err := j.Watch(t.Context(), sync.GetName(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	porttest.Finish(t, porttest.Open(t, j, sync.GetName()))
	got := rest(t, watcher)[1:]
	if len(got) != 3 || !proto.Equal(got[0], before[1]) || !proto.Equal(got[1], before[2]) || got[2].GetFinished() == nil {
		t.Errorf("after a restart: %v", kinds(got))
	}
}

// TestListPages walks over many syncs while more are created.
func TestListPages(t *testing.T) {
	directory := t.TempDir()
	j := open(t, directory)
	var names []string
	for i := range 60 {
		sync := create(t, j, fmt.Sprintf("tenants/t%d", i%3))
		finish(t, j, sync.GetName())
		names = append(names, sync.GetName())
	}
	slices.Reverse(names) // newest first
	walk := func(j *journal.Journal, parent string) []string {
		t.Helper()
		var got []string
		before := ""
		for {
			page, err := j.List(t.Context(), parent, before, 7)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				return got
			}
			for _, sync := range page {
				before = sync.GetName()
				got = append(got, before)
			}
			finish(t, j, create(t, j, "tenants/meanwhile").GetName())
		}
	}
	for range 2 {
		want := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, "tenants/t1/") })
		if diff := cmp.Diff(want, walk(j, "tenants/t1")); diff != "" {
			t.Errorf("one tenant (-want +got):\n%s", diff)
		}
		all := slices.DeleteFunc(walk(j, "tenants/-"), func(name string) bool { return strings.HasPrefix(name, "tenants/meanwhile/") })
		if diff := cmp.Diff(names, all); diff != "" {
			t.Errorf("all tenants (-want +got):\n%s", diff)
		}
		j.Close()
		j = open(t, directory)
	}
}

// TestRequestIDExpires: after its time a request_id starts another sync.
func TestRequestIDExpires(t *testing.T) {
	j, err := journal.Open(t.Context(), journal.Config{Directory: t.TempDir(), RequestIDTTL: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	request := port.CreateRequest{Tenant: "tenants/contoso", Sync: &understudyv1.Sync{}, RequestID: "r", Digest: "d"}
	first, _, err := j.Create(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	finish(t, j, first.GetName())
	if second, created, err := j.Create(t.Context(), request); err != nil || !created || second.GetName() == first.GetName() {
		t.Errorf("Create = %v, %v, %v", second.GetName(), created, err)
	}
}
