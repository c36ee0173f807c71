package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

const (
	modeFull  = understudyv1.ReadMode_READ_MODE_FULL
	modeDelta = understudyv1.ReadMode_READ_MODE_DELTA
)

// fakeCursors keep records in memory.
type fakeCursors struct {
	mu      sync.Mutex
	records map[string][]byte
	err     error
}

func (f *fakeCursors) Load(id string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.records[id]
}

func (f *fakeCursors) Save(id string, record []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.records[id] = record
	}
	return f.err
}

// deltaStage is a stage whose type entra/sp-1 can be read by delta.
type deltaStage struct {
	*stage
	cursors *fakeCursors
	// basis is what the backup holds of entra/sp-1.
	basis string
	// since are the cursors that entra/sp-1 was read with; increment and err are what
	// the next reading with a cursor brings.
	since     []string
	increment port.Increment
	err       error
}

func newDeltaStage(t *testing.T) *deltaStage {
	t.Helper()
	s := &deltaStage{stage: newStage(t), cursors: &fakeCursors{records: map[string][]byte{}}, basis: "tree-1"}
	s.tenant.Cursors, s.tenant.Source, s.tenant.Vault = s.cursors, deltaSource{s}, deltaVault{s.vault, s}
	s.tenant.Readers = readers
	s.tenant.Catalog = &fakeCatalog{[]*catalog.Type{
		{ID: "entra/sp-1", ServicePrincipal: []string{"A.Read.All"}, Delta: &catalog.Delta{}},
		{ID: "entra/sp-2", ServicePrincipal: []string{"B.Read.All"}},
	}}
	s.run()
	return s
}

type deltaSource struct{ stage *deltaStage }

func (d deltaSource) Open() port.Session { return deltaSession{d.stage.source.Open(), d.stage} }

type deltaSession struct {
	port.Session
	stage *deltaStage
}

func (d deltaSession) ReadSince(
	ctx context.Context, t *catalog.Type, identity port.Identity, since port.Cursor, sink func(port.Item) error,
) (port.Increment, error) {
	s := d.stage
	if t.Delta == nil {
		return d.Session.ReadSince(ctx, t, identity, since, sink)
	}
	s.since = append(s.since, string(since))
	if since == nil {
		return port.Increment{Mode: modeFull, Cursor: port.Cursor("after full")}, d.Read(ctx, t, identity, sink)
	}
	return s.increment, s.err
}

type deltaVault struct {
	*fakeVault
	stage *deltaStage
}

func (d deltaVault) Begin(ctx context.Context, turn port.Turn) (port.Staging, error) {
	staging, err := d.fakeVault.Begin(ctx, turn)
	return deltaStaging{staging, d.stage}, err
}

type deltaStaging struct {
	port.Staging
	stage *deltaStage
}

func (d deltaStaging) Basis(*catalog.Type) (string, error) { return d.stage.basis, nil }

func (d deltaStaging) Settle(t *catalog.Type, reading port.Reading) (port.Settlement, error) {
	settlement, err := d.Staging.Settle(t, reading)
	if reading.Outcome == understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED && settlement.Reason == 0 {
		settlement.Basis = d.stage.basis
	}
	return settlement, err
}

// sync runs a sync and returns the result of entra/sp-1.
func (s *deltaStage) sync(spec *understudyv1.SyncSpec) *understudyv1.ConfigurationResult {
	s.t.Helper()
	log := s.start(spec)
	s.finished(log)
	for _, event := range log.stored() {
		r := event.GetConfigurationCompleted().GetResult()
		if r.GetConfigurationType() == "entra/sp-2" && r.GetReadMode() != modeFull {
			s.t.Errorf("a type without a delta was read %s", r.GetReadMode())
		}
		if r.GetConfigurationType() == "entra/sp-1" {
			return r
		}
	}
	s.t.Fatal("entra/sp-1 has no result")
	return nil
}

// usedCursor says with which cursor the last sync read.
func (s *deltaStage) usedCursor() string { return s.since[len(s.since)-1] }

func TestReadingsContinue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newDeltaStage(t)
		if r := s.sync(nil); r.GetReadMode() != modeFull || s.usedCursor() != "" {
			t.Errorf("the first reading: %s with %q", r.GetReadMode(), s.usedCursor())
		}
		s.increment = port.Increment{Mode: modeDelta, Removed: []string{"x"}, Cursor: port.Cursor("after delta")}
		if r := s.sync(nil); r.GetReadMode() != modeDelta || s.usedCursor() != "after full" {
			t.Errorf("the second reading: %s with %q", r.GetReadMode(), s.usedCursor())
		}
		if reading := s.vault.readings["entra/sp-1"]; reading.Since != "tree-1" || len(reading.Removed) != 1 {
			t.Errorf("the vault was told %+v", reading)
		}
		s.sync(nil)
		if s.usedCursor() != "after delta" {
			t.Errorf("the third reading was with %q", s.usedCursor())
		}
	})
}

// A cursor is used for what it was made for, and for at most seven days after the
// last full reading, however many readings by delta come between.
func TestReadingsThatCannotContinue(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *deltaStage, record map[string]any){
		"another backup":      func(s *deltaStage, _ map[string]any) { s.basis = "tree-2" },
		"no backup":           func(s *deltaStage, record map[string]any) { s.basis, record["basis"] = "", "" },
		"another catalog":     func(_ *deltaStage, record map[string]any) { record["catalog"] = "older" },
		"the user":            func(_ *deltaStage, record map[string]any) { record["identity"] = "IDENTITY_USER" },
		"another application": func(s *deltaStage, _ map[string]any) { s.tenant.Readers.ServicePrincipal = "another" },
		"an application without a name": func(s *deltaStage, record map[string]any) {
			s.tenant.Readers.ServicePrincipal, record["reader"] = "", ""
		},
		"a record from before it named the application": func(_ *deltaStage, record map[string]any) { delete(record, "reader") },
		"another form":   func(_ *deltaStage, record map[string]any) { record["form"] = 0 },
		"another tenant": func(_ *deltaStage, record map[string]any) { record["tenant"] = "tenants/fabrikam" },
		"another type":   func(_ *deltaStage, record map[string]any) { record["configuration_type"] = "entra/sp-2" },
		"a while ago": func(_ *deltaStage, record map[string]any) {
			record["full"] = time.Now().Add(-156 * time.Hour)
		},
		"in the future": func(_ *deltaStage, record map[string]any) { record["full"] = time.Now().Add(time.Hour) },
		"no cursor":     func(_ *deltaStage, record map[string]any) { delete(record, "cursor") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newDeltaStage(t)
				s.sync(nil)
				record := map[string]any{}
				if err := json.Unmarshal(s.cursors.records["entra/sp-1"], &record); err != nil {
					t.Fatal(err)
				}
				change(s, record)
				content, err := json.Marshal(record)
				if err != nil {
					t.Fatal(err)
				}
				s.cursors.records["entra/sp-1"] = content
				if r := s.sync(nil); r.GetReadMode() != modeFull || s.usedCursor() != "" {
					t.Errorf("%s with %q", r.GetReadMode(), s.usedCursor())
				}
			})
		})
	}
}

func TestFullReadingsAreWeekly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newDeltaStage(t)
		s.increment = port.Increment{Mode: modeDelta, Cursor: port.Cursor("after delta")}
		var last time.Time
		full := 0
		for range 4 * 30 { // every six hours, for 30 days
			if s.sync(nil).GetReadMode() == modeFull {
				if pause := time.Since(last); full > 0 && (pause > 7*24*time.Hour || pause < 5*24*time.Hour) {
					t.Errorf("%s between two full readings", pause)
				}
				last = time.Now()
				full++
			}
			<-time.After(6 * time.Hour)
		}
		if full < 5 || full > 6 {
			t.Errorf("%d full readings in 30 days", full)
		}
	})
}

// Where the backup does not hold what was read, the cursor stays where it was.
func TestCursorsStay(t *testing.T) {
	t.Parallel()
	permission := readError(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING)
	for name, c := range map[string]struct {
		setUp func(s *deltaStage)
		spec  *understudyv1.SyncSpec
	}{
		"a dry run":               {spec: &understudyv1.SyncSpec{DryRun: true}},
		"the commit failed":       {setUp: func(s *deltaStage) { s.vault.commitErr = errStorage }},
		"the list collapsed":      {setUp: func(s *deltaStage) { s.vault.collapse["entra/sp-1"] = true }},
		"the reading failed":      {setUp: func(s *deltaStage) { s.err = permission }},
		"no cursor came of it":    {setUp: func(s *deltaStage) { s.increment.Cursor = nil }},
		"it could not be kept":    {setUp: func(s *deltaStage) { s.cursors.err = errors.New("no space left") }},
		"the sync did not select": {spec: &understudyv1.SyncSpec{ConfigurationTypes: []string{"entra/sp-2"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newDeltaStage(t)
				s.sync(nil)
				before := maps.Clone(s.cursors.records)
				s.increment = port.Increment{Mode: modeDelta, Cursor: port.Cursor("after delta")}
				if c.setUp != nil {
					c.setUp(s)
				}
				log := s.start(c.spec)
				s.finished(log)
				if string(s.cursors.records["entra/sp-1"]) != string(before["entra/sp-1"]) {
					t.Error("the cursor went on")
				}
			})
		})
	}
}
