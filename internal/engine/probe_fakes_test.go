package engine_test

import (
	"context"
	"crypto/sha256"
	"maps"
	"sync"
	"testing"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// readers are the identities of a probeStage.
var readers = port.Readers{ServicePrincipal: "application", User: "user"}

// fakeKnowledge remembers in memory, for one version of the catalog.
type fakeKnowledge struct {
	mu      sync.Mutex
	lessons map[string]port.Lesson
	err     error
}

func (f *fakeKnowledge) Lessons(version string) map[string]port.Lesson {
	f.mu.Lock()
	defer f.mu.Unlock()
	if version != "test" {
		return nil
	}
	return maps.Clone(f.lessons)
}

func (f *fakeKnowledge) Learn(version string, lessons map[string]port.Lesson) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil || version != "test" {
		return f.err
	}
	maps.Copy(f.lessons, lessons)
	return nil
}

// answers returns what is known, by type.
func (f *fakeKnowledge) answers() map[string]port.ProbeAnswer {
	answers := map[string]port.ProbeAnswer{}
	for id, lesson := range f.Lessons("test") {
		answers[id] = lesson.Answer
	}
	return answers
}

// fakeDigester tells items apart by id and text.
type fakeDigester struct{}

func (fakeDigester) Digest(_ *catalog.Type, item port.Item) (port.Digest, error) {
	return sha256.Sum256([]byte(item.ID + "\x00" + string(item.JSON))), nil
}

// probeStage is a stage whose tenant learns. print/user-1 and print/user-2 are
// probed.
type probeStage struct {
	*stage
	knowledge *fakeKnowledge
	// asked counts the readings of print/user-1 by the service principal.
	asked int
	// requests is what every session says that it made.
	requests int64
}

func newProbeStage(t *testing.T) *probeStage {
	t.Helper()
	s := &probeStage{stage: newStage(t), knowledge: &fakeKnowledge{lessons: map[string]port.Lesson{}}}
	s.tenant.Knowledge, s.tenant.Digester, s.tenant.Readers = s.knowledge, fakeDigester{}, readers
	s.tenant.Source = &countingSource{s.source, &s.requests}
	s.tenant.Catalog = &fakeCatalog{[]*catalog.Type{
		{ID: "entra/sp-1", ServicePrincipal: []string{"A.Read.All"}, User: []string{"A.Read.All"}},
		{ID: "print/user-1", User: []string{"C.Read.All"}, Probe: []string{"C.Read.All"}},
		{ID: "print/user-2", User: []string{"D.Read.All"}},
	}}
	return s
}

// reads says what the identities read of print/user-1.
func (s *probeStage) reads(user, servicePrincipal readFunc) {
	s.source.reads["print/user-1"] = func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
		if identity == port.Identity(s.user) {
			return user(ctx, identity, sink)
		}
		s.asked++
		return servicePrincipal(ctx, identity, sink)
	}
}

// learned makes it known that the service principal reads print/user-1.
func (s *probeStage) learned() {
	s.knowledge.lessons["print/user-1"] = port.Lesson{Answer: port.ProbeEqual, Readers: readers, Time: time.Now()}
}

// sync runs a sync to its end.
func (s *probeStage) sync(spec *understudyv1.SyncSpec) *fakeLog {
	s.t.Helper()
	log := s.start(spec)
	s.finished(log)
	s.checkReadings(log)
	return log
}

// ended ends the engine.
func (s *probeStage) ended() {
	s.stop()
	<-s.done
}

// readBy returns who read print/user-1, and whether that was learned.
func readBy(log *fakeLog) (understudyv1.Identity, bool) {
	result := results(log)["print/user-1"]
	return result.GetIdentity(), result.GetIdentityLearned()
}

// countingSource is a source whose sessions say how many requests they made.
type countingSource struct {
	port.Source
	requests *int64
}

func (s *countingSource) Open() port.Session { return &countingSession{s.Source.Open(), s.requests} }

type countingSession struct {
	port.Session
	requests *int64
}

func (s *countingSession) Stats() port.SourceStats { return port.SourceStats{Requests: *s.requests} }
