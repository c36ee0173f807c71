package port

import (
	understudyv1 "understudy.internal/gen/understudy/v1"
)

// Cursor is where a complete reading of a type left off, so that the next reading
// needs only what changed since. Only the source that made it can read it. It can
// hold what gives access to the tenant's changes: it is never logged, never put
// into a backup, and encrypted where it is kept.
type Cursor []byte

// String redacts the cursor, so that no formatting can show it.
func (Cursor) String() string { return "[redacted]" }

// GoString redacts the cursor, so that no formatting can show it.
func (Cursor) GoString() string { return "[redacted]" }

// Increment says how a type was read.
type Increment struct {
	// Mode is FULL when the sink got every item, DELTA when it got every item that
	// may have changed since the cursor.
	Mode understudyv1.ReadMode
	// Removed are the ids of items that are gone since the cursor; DELTA only.
	Removed []string
	// Without are the parents that are listed, but say that they do not have the type;
	// only of a type that is read for each item of another list, and when the reading
	// is complete. Nothing is known of what the backup has of them.
	Without []string
	// Cursor is where the next reading can begin, once the backup holds what this
	// one read; nil: it has to be in full.
	Cursor Cursor
}

// Cursors keeps the records from which the engine continues readings, by
// configuration type, for one tenant. A record is lost without harm: the type is
// then read in full. All methods may be called at the same time.
type Cursors interface {
	// Load returns the record of a type, or nil when there is none that can be read.
	Load(configurationType string) []byte
	// Save keeps the record of a type in place of the one before, durably.
	Save(configurationType string, record []byte) error
}
