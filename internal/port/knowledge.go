package port

import (
	"crypto/sha256"
	"time"

	"understudy.internal/internal/catalog"
)

// Knowledge remembers what probes taught of one tenant. It outlives the process and
// is no part of the backup: what it forgets is probed again.
type Knowledge interface {
	// Lessons returns what was learned with a version of the catalog, by
	// configuration type. What was learned with another version is not true any
	// more: the type may be read differently. The caller owns the map.
	Lessons(catalogVersion string) map[string]Lesson
	// Learn adds lessons to those of the same version, and forgets those of every
	// other. They are durable when it returns nil; otherwise nothing is known of
	// them after the process ends.
	Learn(catalogVersion string, lessons map[string]Lesson) error
}

// Lesson is what a probe taught of one configuration type.
type Lesson struct {
	Answer ProbeAnswer
	// Filter is the [catalog.Type.TenantFilter] that the type was read with: the
	// lesson holds for no other.
	Filter string
	// Readers are the identities whose answers were compared: the lesson holds for
	// no others.
	Readers Readers
	// Time is when it was learned.
	Time time.Time
}

// Readers tells the identities of a tenant apart from those of an earlier
// definition of it. An application with other roles may see less than the one that
// a lesson is of, and what it does not see looks like a removal.
type Readers struct {
	// ServicePrincipal names the directory and the application; never empty where
	// probes are made.
	ServicePrincipal string
	// User names the directory, the application and the user name that the user
	// signs in with; empty where the tenant has no user.
	User string
}

// ProbeAnswer is how the service principal's answer to a probe compares with a
// complete reading by the user.
type ProbeAnswer string

// The answers that are remembered.
const (
	// ProbeEqual says that the content was the same: the service principal reads
	// the type.
	ProbeEqual ProbeAnswer = "EQUAL"
	// ProbeDifferent says that the service principal sees something else than the
	// user.
	ProbeDifferent ProbeAnswer = "DIFFERENT"
	// ProbeRefused says that the source does not let the service principal in, or
	// does not any more.
	ProbeRefused ProbeAnswer = "REFUSED"
)

// Digest identifies content: items with the same digest are the same to the backup.
type Digest [sha256.Size]byte

// Digester compares items as the backup does: whatever the backup drops, hides or
// orders makes no difference. It may be used at the same time.
type Digester interface {
	// Digest returns the digest of an item with its id and name, or an
	// [*ItemError] when the backup could not store it.
	Digest(configurationType *catalog.Type, item Item) (Digest, error)
}
