package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

const permissionMissing = understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING

// newNarrowStage makes an engine with the real catalog, of a tenant that backs up
// four types of Entra and leaves a part of the catalog out. It logs to the buffer.
func newNarrowStage(t *testing.T, exclude []string, filters map[string]string) (*stage, *bytes.Buffer) {
	t.Helper()
	s, logged := newStage(t), &bytes.Buffer{}
	all, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	if s.tenant.Catalog, err = all.Narrow(exclude, filters); err != nil {
		t.Fatal(err)
	}
	s.tenant.ConfigurationTypes = []string{"entra/groups", "entra/applications", "entra/service-principals", "print/*"}
	s.engine, err = engine.New(engine.Config{
		Tenants: s.tenants, Catalog: all, Syncs: s.syncs, Logger: slog.New(slog.NewJSONHandler(logged, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, logged
}

// results returns the results of a sync, by type.
func results(log *fakeLog) map[string]*understudyv1.ConfigurationResult {
	byType := map[string]*understudyv1.ConfigurationResult{}
	for _, event := range log.stored() {
		if result := event.GetConfigurationCompleted().GetResult(); result != nil {
			byType[result.GetConfigurationType()] = result
		}
	}
	return byType
}

// What the tenant's definition excludes is not read, whatever a spec says; what it
// filters is read with the filter, and says so.
func TestSelection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const filter = "securityEnabled eq true"
		s, _ := newNarrowStage(t, []string{"print/task-definitions", "intune/*"}, map[string]string{"entra/groups": filter})
		s.run()
		log := s.start(nil)
		s.finished(log)
		all := results(log)
		for id, result := range all {
			want := ""
			if id == "entra/groups" {
				want = filter
			}
			if result.GetFilter() != want {
				t.Errorf("%s has the filter %q", id, result.GetFilter())
			}
		}
		if all["print/task-definitions"] != nil || all["print/settings"] == nil || all["entra/groups"] == nil {
			t.Errorf("%d results: something excluded, or not something else", len(all))
		}
		for _, c := range []struct {
			types []string
			field string
		}{
			{[]string{"*"}, ""},
			{[]string{"entra/groups", "print/task-definitions"}, "configuration_types[1]"},
			{[]string{"intune/*"}, "configuration_types[0]"},
			{[]string{"intune/scope-tags", "*"}, "configuration_types[0]"},
		} {
			// What is excluded may be in accept_collapse, as what is not selected may.
			spec := &understudyv1.SyncSpec{ConfigurationTypes: c.types, AcceptCollapse: []string{"print/task-definitions"}, DryRun: true}
			sync, err := s.engine.Start(t.Context(), engine.StartRequest{Tenant: tenantName, Spec: spec})
			var refused *engine.SpecError
			errors.As(err, &refused)
			switch {
			case c.field == "" && err != nil:
				t.Errorf("%q: %v", c.types, err)
			case c.field == "":
				s.finished(s.logOf(sync.GetName()))
			case refused == nil || refused.Field != c.field || !strings.Contains(refused.Description, "excludes"):
				t.Errorf("%q: %v", c.types, err)
			}
		}
		s.stop()
		<-s.done
	})
}

// A retry leaves out what was excluded since.
func TestRetryOfWhatIsExcludedSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newNarrowStage(t, nil, nil)
		s.source.reads["entra/groups"] = fails(readError(permissionMissing))
		s.source.reads["entra/applications"] = fails(readError(permissionMissing))
		s.run()
		first := s.finished(s.start(nil))
		exclude := func(patterns ...string) {
			var err error
			all, _ := catalog.Load()
			if s.tenant.Catalog, err = all.Narrow(patterns, nil); err != nil {
				t.Fatal(err)
			}
		}
		exclude("entra/applications")
		retried, err := s.engine.Retry(t.Context(), engine.RetryRequest{Sync: first.GetName()})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"entra/groups"}, retried.GetSpec().GetConfigurationTypes()); diff != "" {
			t.Error(diff)
		}
		s.finished(s.logOf(retried.GetName()))
		exclude("entra/applications", "entra/groups")
		var nothing *engine.NothingToRetryError
		if _, err := s.engine.Retry(t.Context(), engine.RetryRequest{Sync: first.GetName()}); !errors.As(err, &nothing) {
			t.Errorf("a retry of what is excluded: %v", err)
		}
		s.stop()
		<-s.done
	})
}

// Where Microsoft Graph refuses a list with a filter of the operator, that is what
// the result says; an item's child is refused for another reason.
func TestRefusedFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newNarrowStage(t, nil, map[string]string{"entra/groups": "a ne 1", "entra/service-principals": "a ne 1"})
		bad := &port.ReadError{
			Reason:     understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID,
			HTTPStatus: http.StatusBadRequest, Detail: "Microsoft Graph refused the request",
		}
		s.source.reads["entra/groups"] = fails(bad)
		s.source.reads["entra/applications"] = fails(bad)
		s.source.reads["entra/service-principals"] = fails(bad, "a")
		s.run()
		log := s.start(nil)
		s.finished(log)
		for id, want := range map[string]bool{"entra/groups": true, "entra/applications": false, "entra/service-principals": false} {
			message := results(log)[id].GetError().GetMessage()
			if strings.Contains(message, "Mend or remove the filter") != want || strings.Contains(message, "a ne 1") {
				t.Errorf("%s: %s", id, message)
			}
		}
		s.stop()
		<-s.done
	})
}

func TestDominant(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 20, 2, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		took  []time.Duration
		sync  time.Duration
		index int // -1: none
	}{
		{"nothing", nil, time.Hour, -1},
		{"a sync of one type", []time.Duration{time.Hour}, time.Hour, -1},
		{"most of the time", []time.Duration{time.Second, 31 * time.Minute, 29 * time.Minute}, time.Hour, 1},
		{"half of the time", []time.Duration{time.Second, 30 * time.Minute}, time.Hour, -1},
		{"the longest of two", []time.Duration{40 * time.Minute, 41 * time.Minute}, time.Hour, 1},
		{"nobody's trouble", []time.Duration{time.Second, time.Minute}, time.Minute, -1},
		{"more than a minute", []time.Duration{time.Second, time.Minute + 1}, time.Minute + 1, 1},
	} {
		var list []*understudyv1.ConfigurationResult
		for _, took := range c.took {
			list = append(list, &understudyv1.ConfigurationResult{Duration: durationpb.New(took)})
		}
		var want *understudyv1.ConfigurationResult
		if c.index >= 0 {
			want = list[c.index]
		}
		if got := engine.Dominant(list, start, start.Add(c.sync)); got != want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// The log warns of a type that dominates, once, also when the time limit cut it off.
func TestWarningOfDominantType(t *testing.T) {
	for _, c := range []struct {
		name  string
		read  readFunc
		limit time.Duration
		items float64
		warns bool
	}{
		{"long", lasting(50*time.Minute, items("a", "b", "c")), 0, 3, true},
		{"cut off", lasting(50*time.Minute, items("a")), 30 * time.Minute, 0, true},
		{"short", lasting(50*time.Second, items("a")), 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, logged := newNarrowStage(t, nil, nil)
				s.source.reads["entra/groups"] = c.read
				s.run()
				spec := &understudyv1.SyncSpec{}
				if c.limit > 0 {
					spec.Timeout = durationpb.New(c.limit)
				}
				s.finished(s.start(spec))
				s.stop()
				<-s.done
				var warnings []map[string]any
				for line := range strings.Lines(logged.String()) {
					record := map[string]any{}
					if err := json.Unmarshal([]byte(line), &record); err != nil {
						t.Fatal(err)
					}
					if record["level"] == "WARN" {
						warnings = append(warnings, record)
					}
				}
				if !c.warns && len(warnings) == 0 {
					return
				}
				if len(warnings) != 1 || warnings[0]["configuration_type"] != "entra/groups" || warnings[0]["items"] != c.items ||
					!strings.Contains(warnings[0]["advice"].(string), "exclude") {
					t.Errorf("warnings %v", warnings)
				}
			})
		})
	}
}

// lasting waits before it reads.
func lasting(duration time.Duration, read readFunc) readFunc {
	return func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
		select {
		case <-time.After(duration):
			return read(ctx, identity, sink)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
