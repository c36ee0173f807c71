package journal_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"understudy.internal/internal/journal"
)

// watched is what one worker, `own`, hears over the time, in a bubble of its own.
type watched struct {
	journal.Members
	begin time.Time
}

// watching begins with a worker that reaches the engine.
func watching(lease time.Duration, logger *slog.Logger) *watched {
	return &watched{journal.NewMembers("own", lease, logger), time.Now()}
}

// until lets time pass, second after second, until one after the begin.
func (w *watched) until(second int, each func()) {
	for end := w.begin.Add(time.Duration(second) * time.Second); time.Now().Before(end); {
		<-time.After(time.Second)
		each()
	}
}

// dies lets time pass until a worker counts as dead, and returns after how many seconds
// from the begin.
func (w *watched) dies(worker string, each func()) int {
	for second := 1; second < 1000; second++ {
		w.until(second, each)
		if !slices.Contains(w.Alive(), worker) {
			return second
		}
	}
	return -1
}

// TestSilence: after what time a worker counts as dead that was heard of once.
func TestSilence(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, test := range map[string]struct {
		own, its time.Duration
		want     int
	}{
		"the same lease":         {30 * s, 30 * s, 24},
		"a longer one":           {5 * s, 60 * s, 48},
		"a shorter one":          {60 * s, 5 * s, 4},
		"one that is not told":   {30 * s, 0, 24},
		"not told, and shortest": {5 * s, 0, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				w := watching(test.own, slog.New(slog.NewTextHandler(&log, nil)))
				w.Hear("other", 0) // by a sync that it has
				w.Hear("other", test.its)
				if got := w.dies("other", w.Reach); got != test.want {
					t.Errorf("it counts as dead after %d s, not %d", got, test.want)
				}
				w.Hear("other", test.its)
				if got := w.Alive(); !slices.Equal(got, []string{"other", "own"}) {
					t.Errorf("heard of again: %v", got)
				}
				if said := strings.Count(log.String(), "another lease"); said > 1 || (said == 1) != (test.its != 0 && test.its != test.own) {
					t.Errorf("it logged %s", log.String())
				}
			})
		})
	}
}

// TestDeathInAnOutage: a worker dies, and the engine does not answer for a while, such as
// when both were on one machine. Who lives is heard of, and never counts as dead.
func TestDeathInAnOutage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answersAfter int // seconds
		want         int
	}{
		"none":                       {0, 24},
		"short":                      {10, 24},
		"as long as a leader's loss": {16, 29}, // the lease time is 30
		"long":                       {25, 38},
		"longer than the lease":      {45, 58},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watching(30*time.Second, slog.New(slog.DiscardHandler))
				w.Hear("dead", 0)
				w.Hear("living", 0)
				each := func() {
					now := int(time.Since(w.begin) / time.Second)
					// It beats until and after the outage, and is not heard of before its next beat.
					if now > test.answersAfter && now%6 == 5 {
						w.Hear("living", 0)
					}
					if now > test.answersAfter {
						w.Reach()
					}
					if !slices.Contains(w.Alive(), "living") {
						t.Fatalf("the living one counts as dead after %d s", now)
					}
					if own := slices.Contains(w.Alive(), "own"); own != (now <= test.answersAfter && now < 30 || now > test.answersAfter) {
						t.Fatalf("after %d s it counts itself alive: %t", now, own)
					}
				}
				if got := w.dies("dead", each); got != test.want {
					t.Errorf("the dead one counts as dead after %d s, not %d", got, test.want)
				}
				w.until(200, each)
			})
		})
	}
}

// TestLeasesThatDiffer: who has a longer lease, and says less often that it is alive, is
// judged by that.
func TestLeasesThatDiffer(t *testing.T) {
	t.Parallel()
	c, prefix := onCluster(t)
	short := leased(t, c, prefix, 2*time.Second, "a")[0]
	long := leased(t, c, prefix, time.Minute, "b")[0]
	until(t, "it hears of the other one", func() bool { return slices.Contains(short.Alive(), long.Worker()) })
	end := time.After(6 * time.Second)
	for steady := true; steady; {
		select {
		case <-end:
			steady = false
		case <-short.Changed():
			if got := short.Alive(); !slices.Contains(got, long.Worker()) {
				t.Fatalf("alive = %v", got)
			}
		}
	}
}
