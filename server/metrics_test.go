package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
	"understudy.internal/internal/simulator"
	"understudy.internal/internal/tenant"
)

// scrape returns what /metrics says: series → value.
func scrape(ctx context.Context, t testing.TB, address string) map[string]string {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", response.Status, err)
	}
	series := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && line[0] != '#' {
			series[name+"}"] = value
		} else if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && line[0] != '#' {
			series[name] = value
		}
	}
	return series
}

// The metrics after a sync that succeeded, and one that did not; and the page has
// every metric, with its alert, and no other.
func TestMetrics(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(c *labConfig) { c.Settings = "metrics: {listen: \"127.0.0.1:0\"}\n" })
	address := h.lab.service.metricsListener.Addr().String()
	h.mustSync("contoso", nil, nobody)
	h.wrong(simulator.Scenario{Name: "secret-expired"})
	if s := h.sync("contoso", nil, nobody); s.final.GetState() != understudyv1.SyncState_SYNC_STATE_FAILED {
		t.Fatalf("the sync without a secret is %s", s.final.GetState())
	}
	h.lab.service.last.lookNow(h.ctx)
	// An event can be read before the one who stored it has counted it.
	eventually(t, 10*time.Second, "both are counted", func() bool {
		return scrape(h.ctx, t, address)[`understudy_syncs_finished_total{state="failed"}`] == "1"
	})
	series := scrape(h.ctx, t, address)
	for name, want := range map[string]string{
		`understudy_syncs_finished_total{state="succeeded"}`:                           "1",
		`understudy_syncs_finished_total{state="failed"}`:                              "1",
		`understudy_syncs_finished_total{state="cancelled"}`:                           "0",
		`understudy_syncs{state="running"}`:                                            "0",
		`understudy_syncs{state="pending"}`:                                            "0",
		`understudy_replica_syncs`:                                                     "0",
		`understudy_replicas_alive`:                                                    "1",
		`understudy_journal_healthy`:                                                   "1",
		`understudy_journal_append_errors_total`:                                       "0",
		`understudy_watchers`:                                                          "0",
		`understudy_slow_watchers_total`:                                               "0",
		`understudy_sync_takeovers_total`:                                              "0",
		`understudy_syncs_lost_total`:                                                  "0",
		`understudy_calls_total{code="OK",method="understudy.v1.SyncService/RunSync"}`: "1",
		// A rate needs a zero to begin with.
		`understudy_calls_total{code="Internal",method="understudy.v1.SyncService/RunSync"}`: "0",
		`understudy_calls_total{code="Internal",method="understudy.v1.SyncService/GetSync"}`: "0",
		`understudy_syncs_finished_total{state="partially_succeeded"}`:                       "0",
		// Never synced, which is worth an alert too.
		`understudy_tenant_last_sync_timestamp_seconds{state="succeeded",tenant="fabrikam"}`: "0",
	} {
		if series[name] != want {
			t.Errorf("%s is %q, not %s", name, series[name], want)
		}
	}
	for _, name := range []string{
		`understudy_tenant_last_sync_timestamp_seconds{state="succeeded",tenant="contoso"}`,
		`understudy_tenant_last_sync_timestamp_seconds{state="failed",tenant="contoso"}`, `understudy_journal_append_seconds_count`,
	} {
		if series[name] == "" || series[name] == "0" {
			t.Errorf("%s is %q", name, series[name])
		}
	}

	families, err := h.lab.service.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"understudy_push_failures_total": true} // has no series without a remote
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "understudy_") {
			known[family.GetName()] = true
		}
	}
	page := string(readTestFile(t, "../docs/operations.md"))
	rows := map[string]bool{}
	for _, row := range metricRow.FindAllStringSubmatch(page, -1) {
		rows[row[1]] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(rows))); diff != "" {
		t.Errorf("docs/operations.md, -program +page:\n%s", diff)
	}
	for _, name := range metricInRule.FindAllString(alertRules(t, page), -1) {
		if base := strings.TrimSuffix(name, "_bucket"); !known[base] {
			t.Errorf("an alert is about %s, which is no metric", name)
		}
	}
	for line := range strings.Lines(alertRules(t, page)) {
		if strings.Contains(line, "time() -") && !strings.Contains(line, "} > 0)") {
			t.Errorf("an alert takes 0, which is none, for 1970: %s", line)
		}
	}
}

// metricRow is a row of the page: name, labels, meaning, alert.
var (
	metricRow    = regexp.MustCompile("(?m)^\\| `(understudy_[a-z_]+)` \\|[^|]*\\|[^|]+\\|[^|]+\\|$")
	metricInRule = regexp.MustCompile(`understudy_[a-z_]+`)
)

// alertRules returns the rules of the page.
func alertRules(t *testing.T, page string) string {
	t.Helper()
	_, rest, _ := strings.Cut(page, "```yaml\ngroups:")
	rules, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the page has no alert rules")
	}
	return rules
}

// What may fail is at zero before it does: every method, and the tenants with a remote.
func TestMetricsBeginAtZero(t *testing.T) {
	m := newMetrics()
	m.begin([]tenant.Definition{{ID: "contoso", Repository: tenant.Repository{Remote: "https://git.example/a"}}, {ID: "fabrikam"}})
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if counter := metric.GetCounter(); counter != nil && counter.GetValue() == 0 {
					got[family.GetName()+" "+label.GetValue()] = true
				}
			}
		}
	}
	want := map[string]bool{"understudy_push_failures_total contoso": true, "understudy_calls_total Internal": true}
	methods := understudyv1.File_understudy_v1_sync_service_proto.Services().Get(0).Methods()
	for i := range methods.Len() {
		want["understudy_calls_total understudy.v1.SyncService/"+string(methods.Get(i).Name())] = true
	}
	for _, state := range finalStates {
		want["understudy_syncs_finished_total "+stateLabel(state)] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What a worker stores is counted as what it was.
func TestMeteredLog(t *testing.T) {
	m := newMetrics()
	syncs := &meteredSyncs{&openSyncs{}, m}
	log, err := syncs.Open(t.Context(), "tenants/contoso/syncs/1")
	if err != nil {
		t.Fatal(err)
	}
	inner := &syncs.Syncs.(*openSyncs).log
	appends := func(failure error, events ...*understudyv1.SyncEvent) {
		t.Helper()
		inner.failure = failure
		if err := log.Append(t.Context(), events...); !errors.Is(err, failure) {
			t.Fatal(err)
		}
	}
	taken := &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_StateChanged{StateChanged: &understudyv1.StateChanged{
		State: understudyv1.SyncState_SYNC_STATE_RUNNING, Worker: "a-1",
	}}}
	over := &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: &understudyv1.Sync{
		State: understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED, EndTime: timestamppb.Now(),
		Snapshot: &understudyv1.Snapshot{PushState: understudyv1.PushState_PUSH_STATE_FAILED},
	}}}}
	fenced := &port.FencedError{}
	appends(fenced, taken) // somebody else was faster: nothing was lost
	appends(nil, taken)
	appends(&port.StorageError{Err: io.ErrShortWrite}, over)
	for _, worker := range []string{"a-1", "b-1", "b-1"} {
		inner.worker = worker
		syncs.findLost(t.Context())
	}
	appends(fenced, over)
	appends(nil, over)
	appends(fenced, over)
	got := map[string]float64{}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if value := metric.GetCounter().GetValue(); value > 0 && strings.HasPrefix(family.GetName(), "understudy_") {
				got[family.GetName()] = value
			}
			if count := metric.GetHistogram().GetSampleCount(); count > 0 && strings.HasPrefix(family.GetName(), "understudy_") {
				got[family.GetName()] = float64(count)
			}
		}
	}
	want := map[string]float64{
		"understudy_sync_takeovers_total": 1, "understudy_syncs_lost_total": 1, "understudy_journal_append_errors_total": 1,
		"understudy_journal_append_seconds": 2, "understudy_syncs_finished_total": 1, "understudy_push_failures_total": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// openSyncs has one sync.
type openSyncs struct {
	port.Syncs
	log scriptedLog
}

func (*openSyncs) Worker() string { return "a-1" }

func (s *openSyncs) Open(context.Context, string) (port.Log, error) { return &s.log, nil }

func (s *openSyncs) Get(context.Context, string) (*understudyv1.Sync, error) {
	return &understudyv1.Sync{Worker: s.log.worker}, nil
}

type scriptedLog struct {
	port.Log
	failure error
	worker  string
}

func (l *scriptedLog) Append(context.Context, ...*understudyv1.SyncEvent) error { return l.failure }

// The last syncs are found behind others, and looked for once.
func TestLastSyncs(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 1, 0, minute, 0, 0, time.UTC) }
	list := &listedSyncs{}
	add := func(minute int, state understudyv1.SyncState) {
		s := &understudyv1.Sync{Name: at(minute).Format(time.RFC3339), State: state}
		if state != understudyv1.SyncState_SYNC_STATE_RUNNING {
			s.EndTime = timestamppb.New(at(minute))
		}
		list.syncs = append([]*understudyv1.Sync{s}, list.syncs...)
	}
	succeeded, failed := finalStates[0], finalStates[2]
	last := newLastSyncs(list, []string{"tenants/contoso"}, slog.New(slog.DiscardHandler))
	look := func() map[lastSync]time.Time {
		t.Helper()
		list.given = 0
		last.lookNow(t.Context())
		return last.times()
	}
	none := time.Time{}
	want := map[lastSync]time.Time{}
	for _, state := range finalStates {
		want[lastSync{"contoso", state}] = none
	}
	compare := func(step string, most int) {
		t.Helper()
		if diff := cmp.Diff(want, look()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", step, diff)
		}
		if list.given > most {
			t.Errorf("%s: %d syncs were read, at most %d are needed", step, list.given, most)
		}
	}
	compare("nothing", 0)
	for i := range 40 {
		add(i, failed)
		if i == 3 {
			add(4, succeeded)
		}
	}
	add(50, understudyv1.SyncState_SYNC_STATE_RUNNING)
	want[lastSync{"contoso", succeeded}], want[lastSync{"contoso", failed}] = at(4), at(39)
	compare("one behind others", 61)
	compare("nothing new, and one that runs", 2+lastSyncsPage)
	list.syncs[0].State, list.syncs[0].EndTime = succeeded, timestamppb.New(at(51))
	want[lastSync{"contoso", succeeded}] = at(51)
	compare("one finished", 1)
	compare("nothing new", 1)
	add(60, failed)
	want[lastSync{"contoso", failed}] = at(60)
	compare("one failed", 1+lastSyncsPage)
}

type listedSyncs struct {
	port.Watches
	syncs []*understudyv1.Sync
	given int
}

func (l *listedSyncs) List(_ context.Context, _, before string, limit int) ([]*understudyv1.Sync, error) {
	start := 0
	for before != "" && l.syncs[start].GetName() != before {
		start++
	}
	if before != "" {
		start++
	}
	page := l.syncs[min(start, len(l.syncs)):min(start+limit, len(l.syncs))]
	l.given += len(page)
	return page, nil
}
