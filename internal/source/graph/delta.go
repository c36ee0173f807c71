package graph

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// ReadSince implements [port.Session].
//
// A delta query is only asked which items may have changed. Those are read as a
// full reading reads them, one by one with all their children; and the children
// that a delta query says nothing of are read of every item that there was. So the
// backup holds what a full reading would have brought.
//
// An item is only gone when the delta query says so and the item itself answers
// 404. Whatever else is not as expected (410, an answer that cannot be used, an
// item that is not there, too many removals, more changes than a full reading has
// pages for) makes the reading a full one.
func (s *session) ReadSince(
	ctx context.Context, t *catalog.Type, identity port.Identity, since port.Cursor, sink func(port.Item) error,
) (port.Increment, error) {
	full := port.Increment{Mode: understudyv1.ReadMode_READ_MODE_FULL}
	if t.Delta == nil || t.Filter != "" {
		return s.readFull(ctx, t, identity, sink)
	}
	if state, ok := s.source.decodeCursor(t, since); ok {
		var increment port.Increment
		err := s.source.recovering(func() (err error) {
			increment, err = s.readDelta(ctx, t, identity, state, sink)
			return err
		})
		if err == nil || !restarts(err) {
			return increment, err
		}
		s.source.logger.LogAttrs(ctx, slog.LevelDebug, "a delta reading became a full one",
			slog.String("configuration_type", t.ID), slog.String("reason", err.Error()))
	}
	r, end := s.newReading(ctx, t, identity, sink)
	defer end()
	// Before the list: a change that the list just missed comes after the links.
	links, noLinks := r.latestLinks()
	if noLinks != nil {
		s.source.logger.LogAttrs(ctx, slog.LevelDebug, "there is no delta link, and the next reading will be a full one",
			slog.String("configuration_type", t.ID), slog.String("reason", noLinks.Error()))
	}
	r.trail = newTrail(t)
	if err := r.all(); err != nil || noLinks != nil {
		return full, err
	}
	var err error
	full.Cursor, err = s.source.encodeCursor(t, cursorState{Links: [][]string{links}, Items: r.trail.items})
	return full, err
}

// restartError says why a reading by delta has to become a full one.
type restartError struct{ reason string }

func (e *restartError) Error() string { return e.reason }

// restarts says whether a full reading may succeed where one by delta failed. The
// texts of these errors hold nothing of the provider's.
func restarts(err error) bool {
	if restart := (*restartError)(nil); errors.As(err, &restart) {
		return true
	}
	var readError *port.ReadError
	return errors.As(err, &readError) &&
		readError.Reason != understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED
}

// How much a reading by delta may bring: beyond it a full reading, whose list has
// hundreds of items a page and which keeps none in memory, is the better one.
const (
	// changedItems and changedShare: more than so many changes, if they are more than
	// this part of the items.
	changedItems = 1000
	changedShare = 4
	// changedBytes bounds the items that wait for the end of the reading.
	changedBytes = 64 << 20
	// removedItems and removedShare are the collapse guard of the vault: such a list
	// is only believed when it was read in full.
	removedItems = 5
	removedShare = 5
)

// check says whether what the delta queries mention can be believed, and is worth
// going on.
func (d *deltaReading) check() error {
	removed, changed := 0, 0
	for id, gone := range d.mentioned {
		_, known := d.state.Items[id]
		switch {
		case gone && known:
			removed++
		case !gone:
			changed++
		}
	}
	items := len(d.state.Items)
	if removed > 0 && (removed == items || (removed >= removedItems && removed*removedShare > items)) {
		return &restartError{fmt.Sprintf("%d of %d items are said to be gone", removed, items)}
	}
	if changed > changedItems && changed*changedShare > items {
		return &restartError{fmt.Sprintf("%d items changed, of %d", changed, items)}
	}
	return nil
}
