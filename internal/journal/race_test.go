//go:build race

package journal_test

// raceEnabled says that the race detector makes everything slow.
const raceEnabled = true
