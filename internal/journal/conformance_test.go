package journal_test

import (
	"testing"

	"understudy.internal/internal/port"
	"understudy.internal/internal/port/porttest"
)

func TestJournalConforms(t *testing.T) {
	t.Parallel()
	porttest.Syncs(t, func(t *testing.T) port.Syncs { return open(t, t.TempDir()) })
}
