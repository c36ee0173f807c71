package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A sync hangs when it was seen this often, one look after the other, though its time
// limit and that of a commit are over: an hour. It is counted and not measured, so that a
// process that was frozen for longer has an hour too.
const (
	hangInterval = time.Minute
	hangLooks    = 60
)

// attended is a sync that somebody here attends to.
type attended struct {
	// run is nil before it began.
	run *run
	// until is when it is over at the latest, unless it hangs.
	until time.Time
	// late is how often it was seen after that.
	late int
}

// until says until when a sync may be attended to that may still read for a while.
func until(reading time.Duration) time.Time {
	return time.Now().Add(max(0, reading) + commitTimeout)
}

// HungError says that a sync hangs in this process, most likely in a disk that does not
// answer. While the process lives nobody takes the sync over, and its tenant is locked.
type HungError struct {
	// Sync is its name.
	Sync string
}

// Error implements error.
func (e *HungError) Error() string {
	return fmt.Sprintf("%s hangs: it should have ended an hour ago. Look at the disk of data_dir, a network disk above all, "+
		"and at the Git remote; the sync goes on when this service is started again, or at another replica", e.Sync)
}

// WatchHung returns a [*HungError] when a sync of this process hangs, and nil when ctx is
// done. What hangs cannot be ended but with its process.
func (e *Engine) WatchHung(ctx context.Context) error {
	ticker := time.NewTicker(hangInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if name := e.hung(time.Now()); name != "" {
			return &HungError{Sync: name}
		}
	}
}

// hung looks once, and returns the name of a sync that hangs.
func (e *Engine) hung(now time.Time) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(e.active)) {
		a := e.active[name]
		if now.Before(a.until) {
			continue
		}
		if a.late++; a.late >= hangLooks {
			return name
		}
	}
	return ""
}
