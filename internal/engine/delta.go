package engine

import (
	"encoding/json"
	"hash/fnv"
	"time"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// A type that can be read by delta is read in full by the first sync that is later
// than this after the last full reading. Where there is a sync every night that is at
// least once in seven days, which is also how long Graph keeps the state behind a
// delta link. Each type has a time of its own, so that not all are due in one sync.
// https://learn.microsoft.com/graph/delta-query-overview
const (
	fullReadingLatest = 156 * time.Hour
	fullReadingSpread = 36 * time.Hour
)

// recordForm is the form of a record. It changes, too, when this service begins to
// store the same answers in another way: every type is then read in full.
const recordForm = 1

// record is what the engine keeps of a complete reading, to continue from it.
type record struct {
	Form int `json:"form"`
	// Tenant and ConfigurationType are what was read, Identity who read it, Catalog
	// the version of the catalog.
	Tenant            string `json:"tenant"`
	ConfigurationType string `json:"configuration_type"`
	Identity          string `json:"identity"`
	// Reader is the name of the identity: another application, or another user, may see
	// items that did not change since, of which no delta query tells.
	Reader  string `json:"reader"`
	Catalog string `json:"catalog"`
	// Basis is what the backup held of the type when the reading was committed.
	Basis string `json:"basis"`
	// Full is when the type was last read in full.
	Full time.Time `json:"full"`
	// Cursor is where the reading left off.
	Cursor []byte `json:"cursor"`
}

// continues says whether a reading can continue from a record. now is a record of
// how things stand now.
func (rec *record) continues(now *record) bool {
	return rec.Form == now.Form && rec.Tenant == now.Tenant && rec.ConfigurationType == now.ConfigurationType &&
		rec.Identity == now.Identity && now.Reader != "" && rec.Reader == now.Reader && rec.Catalog == now.Catalog &&
		now.Basis != "" && rec.Basis == now.Basis && len(rec.Cursor) > 0 &&
		!rec.Full.After(now.Full) && now.Full.Before(rec.Full.Add(fullReadingAfter(rec.Tenant, rec.ConfigurationType)))
}

// nameOf returns the name of an identity among the readers of a tenant.
func nameOf(readers port.Readers, identity understudyv1.Identity) string {
	if identity == understudyv1.Identity_IDENTITY_USER {
		return readers.User
	}
	return readers.ServicePrincipal
}

// fullReadingAfter returns how long after a full reading of a type the next is due.
func fullReadingAfter(tenant, configurationType string) time.Duration {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(tenant + "\x00" + configurationType)) // never fails
	return fullReadingLatest - time.Duration(hash.Sum32()%uint32(fullReadingSpread/time.Second))*time.Second
}

// incremental reads the type, by delta where that is possible, and notes what the
// result is to say of it and what the next reading needs.
func (tr *typeReader) incremental(who *actor) error {
	r := tr.run
	tr.mode, tr.removed, tr.without, tr.next = understudyv1.ReadMode_READ_MODE_FULL, nil, nil, nil
	switch {
	case tr.t.Delta == nil:
		increment, err := r.session.ReadSince(who.ctx, tr.t, who.port, nil, tr.sink)
		tr.without = increment.Without
		return err
	case r.tenant.Cursors == nil:
		return r.session.Read(who.ctx, tr.t, who.port, tr.sink)
	}
	var err error
	if tr.basis, err = r.staging.Basis(tr.t); err != nil {
		return &commitError{err}
	}
	now := &record{
		Form: recordForm, Tenant: r.tenant.Name, ConfigurationType: tr.t.ID, Identity: who.identity.String(),
		Reader: nameOf(r.plan.readers, who.identity), Catalog: r.engine.catalog.Version(), Basis: tr.basis, Full: time.Now(),
	}
	var since port.Cursor
	last := loadRecord(r.tenant.Cursors, tr.t)
	if last != nil && last.continues(now) {
		since = last.Cursor
	}
	increment, err := r.session.ReadSince(who.ctx, tr.t, who.port, since, tr.sink)
	tr.mode, tr.removed = increment.Mode, increment.Removed
	if err == nil && increment.Mode == understudyv1.ReadMode_READ_MODE_DELTA {
		now.Full = last.Full
	}
	if err == nil && len(increment.Cursor) > 0 {
		now.Cursor = increment.Cursor
		tr.next = now
	}
	return err
}

// loadRecord returns the record of a type, or nil.
func loadRecord(cursors port.Cursors, t *catalog.Type) *record {
	content := cursors.Load(t.ID)
	rec := &record{}
	if content == nil || json.Unmarshal(content, rec) != nil {
		return nil
	}
	return rec
}

// sinceOf returns what a complete reading builds on: empty when it was a full one.
func (tr *typeReader) sinceOf(a attempt) string {
	if a.outcome == complete && tr.mode == understudyv1.ReadMode_READ_MODE_DELTA {
		return tr.basis
	}
	return ""
}

// keepRecord keeps the record of a type until the commit: what the backup does not
// hold yet must be read again.
func (r *run) keepRecord(rec *record, settlement port.Settlement) {
	switch settlement.Outcome {
	case understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED,
		understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED:
	default:
		return
	}
	if rec == nil || settlement.Basis == "" {
		return
	}
	rec.Basis = settlement.Basis
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
}

// saveRecords keeps the records of what is committed. A record that is lost makes
// the next reading a full one, or one from an earlier record that still fits.
func (r *run) saveRecords() {
	r.mu.Lock()
	records := r.records
	r.mu.Unlock()
	for _, rec := range records {
		content, err := json.Marshal(rec)
		if err == nil {
			err = r.tenant.Cursors.Save(rec.ConfigurationType, content)
		}
		if err != nil {
			r.logger.Warn("where a reading left off could not be kept; the next one will be a full one",
				"configuration_type", rec.ConfigurationType, "error", err)
		}
	}
}
