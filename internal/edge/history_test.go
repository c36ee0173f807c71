package edge

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
)

// results returns all results of syncA, page by page.
func results(t *testing.T, f *fixture, request *understudyv1.ListConfigurationResultsRequest) (all []*understudyv1.ConfigurationResult, pages int) {
	t.Helper()
	for {
		page, err := f.client.ListConfigurationResults(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		all, pages = append(all, page.GetResults()...), pages+1
		if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
			return all, pages
		}
	}
}

// A list of any length is paged through, and has everything once.
func TestLongHistory(t *testing.T) {
	const many = 10_000
	f := serve(t)
	want := make([]string, many)
	var events []*understudyv1.SyncEvent
	for i := range many {
		want[i] = fmt.Sprintf("entra/t%05d", i)
		events = append(events, durable(want[i]))
		f.journal.list = append(f.journal.list, &understudyv1.Sync{Name: fmt.Sprintf("tenants/contoso/syncs/%05d", many-i)})
	}
	f.journal.append(events...)
	var got []string
	all, pages := results(t, f, &understudyv1.ListConfigurationResultsRequest{Parent: syncA, PageSize: maxPage})
	for _, result := range all {
		got = append(got, result.GetConfigurationType())
	}
	if d := diff(want, got); d != "" || pages != many/maxPage {
		t.Errorf("results on %d pages: %s", pages, d)
	}

	got = nil
	for request := (&understudyv1.ListSyncsRequest{Parent: contoso, PageSize: maxPage}); ; {
		page, err := f.client.ListSyncs(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		for _, sync := range page.GetSyncs() {
			got = append(got, sync.GetName())
		}
		if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
			break
		}
	}
	if !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(b, a) }) || len(slices.Compact(got)) != many {
		t.Errorf("%d syncs, or not the newest first", len(got))
	}
}

// A type that was completed again after a takeover is listed once, with the later
// result, on whatever page and under whatever filter.
func TestResultsAfterATakeover(t *testing.T) {
	const (
		unchanged  = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
		incomplete = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_INCOMPLETE
	)
	f := serve(t)
	f.journal.append(durable("entra/a"), durable("entra/b"), durable("entra/c"))
	again := durable("entra/a")
	again.GetConfigurationCompleted().GetResult().Outcome = incomplete
	f.journal.append(again, durable("entra/d"))
	f.journal.sync.Attempt = 2
	for _, c := range []struct {
		outcomes []understudyv1.ConfigurationOutcome
		want     []string
	}{
		{nil, []string{"entra/b UNCHANGED", "entra/c UNCHANGED", "entra/a INCOMPLETE", "entra/d UNCHANGED"}},
		{[]understudyv1.ConfigurationOutcome{unchanged}, []string{"entra/b UNCHANGED", "entra/c UNCHANGED", "entra/d UNCHANGED"}},
		{[]understudyv1.ConfigurationOutcome{incomplete}, []string{"entra/a INCOMPLETE"}},
	} {
		for size := range int32(5) {
			all, _ := results(t, f, &understudyv1.ListConfigurationResultsRequest{Parent: syncA, PageSize: size, Outcomes: c.outcomes})
			var got []string
			for _, result := range all {
				got = append(got, result.GetConfigurationType()+" "+result.GetOutcome().String()[len("CONFIGURATION_OUTCOME_"):])
			}
			if d := diff(c.want, got); d != "" {
				t.Errorf("%v, %d a page: %s", c.outcomes, size, d)
			}
		}
	}
}

// What the journal does not keep any more cannot be watched: the status says where
// what is kept begins, and from there it can.
func TestTrimmedHistory(t *testing.T) {
	t.Parallel()
	// Between what goes and what stays there is time enough to look, on a slow machine.
	const retention = 6 * time.Second
	j, err := journal.Open(t.Context(), journal.Config{Directory: t.TempDir(), Retention: retention})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	f := serve(t, overJournal(j))
	s := newScript(t, j, contoso)
	s.append(3)
	first := time.After(retention - time.Second) // the rest is to stay when these go
	<-first
	s.append(2)
	s.finish()
	// A log that somebody reads stays in memory with what it had: nobody does before the
	// events go, and each look begins without one.
	<-time.After(3 * time.Second / 2)
	request := &understudyv1.WatchSyncRequest{Name: s.name, AfterSequence: 1}
	var refused error
	until(t, "events are trimmed", func() bool {
		runtime.GC()
		stream, err := f.client.WatchSync(t.Context(), request)
		for err == nil {
			_, err = stream.Recv()
		}
		refused = err
		return status.Code(err) == codes.OutOfRange
	})
	info := detail[*errdetails.ErrorInfo](refused)
	if info.GetReason() != understudyv1.ErrorReason_ERROR_REASON_EVENTS_TRIMMED.String() || info.GetMetadata()["oldestSequence"] != "4" {
		t.Fatalf("%v %v", refused, info)
	}
	stream, err := f.client.WatchSync(t.Context(), &understudyv1.WatchSyncRequest{Name: s.name, AfterSequence: 3})
	if err != nil {
		t.Fatal(err)
	}
	if err := readsAll(stream, 3, 6); err != nil {
		t.Error(err)
	}
}
