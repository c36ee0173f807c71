package engine_test

import (
	"testing"

	"understudy.internal/internal/port"
	"understudy.internal/internal/port/porttest"
)

// TestFakeSyncsConform: what the engine's tests stand on keeps the promises of the
// journal.
func TestFakeSyncsConform(t *testing.T) {
	porttest.Syncs(t, func(*testing.T) port.Syncs { return newFakeSyncs("worker") })
}
