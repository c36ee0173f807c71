package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
	"understudy.internal/internal/simulator"
)

// BenchmarkStartWithHistory starts the service as a process of its own, with 10,000
// syncs of history (UNDERSTUDY_BENCH_HISTORY sets another number), until health says
// SERVING: after a stop in order, and after a kill. It reports what is resident when
// garbage was collected. Goals: 500 ms, and 100 MiB.
func BenchmarkStartWithHistory(b *testing.B) {
	syncs := fromEnvironment(b, "UNDERSTUDY_BENCH_HISTORY", 10_000, strconv.Atoi)
	l := newProcessLab(b.Context(), b, simulator.Config{Seed: 1, Items: 2}, harnessTypes)
	begin := time.Now()
	fillHistory(b, filepath.Join(l.Folder, "data", "journal"), syncs)
	b.Logf("%d syncs were made in %s", syncs, time.Since(begin))
	startServer(b.Context(), b, l.configFile()).stop(b) // makes keys and certificates
	for _, how := range []struct {
		name string
		end  func(*process)
	}{{"stopped", func(p *process) { p.stop(b) }}, {"killed", (*process).kill}} {
		b.Run(fmt.Sprintf("syncs=%d/%s", syncs, how.name), func(b *testing.B) {
			startServer(b.Context(), b, l.configFile()).kill()
			if how.name == "stopped" {
				startServer(b.Context(), b, l.configFile()).stop(b)
			}
			var took []float64
			var peak, resident int
			for b.Loop() {
				begin := time.Now()
				p := startServer(b.Context(), b, l.configFile())
				took = append(took, float64(time.Since(begin).Milliseconds()))
				b.StopTimer()
				page, err := p.client.ListSyncs(b.Context(), &understudyv1.ListSyncsRequest{Parent: "tenants/-", PageSize: 1000})
				if err != nil || len(page.GetSyncs()) != min(syncs, 1000) {
					b.Fatalf("%d syncs: %v", len(page.GetSyncs()), err)
				}
				peak = max(peak, p.memory(b, "VmHWM"))
				p.collect(b)
				resident = max(resident, p.memory(b, "VmRSS"))
				how.end(p)
				b.StartTimer()
			}
			b.ReportMetric(median(took), "ms-to-serving")
			b.ReportMetric(float64(resident)/1024, "resident-MiB")
			b.ReportMetric(float64(peak)/1024, "peak-MiB")
		})
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// fillHistory stores finished syncs, each with the results of 30 types, in the
// directory of a journal.
func fillHistory(tb testing.TB, directory string, syncs int) {
	tb.Helper()
	ctx := tb.Context()
	j, err := journal.Open(ctx, journal.Config{Directory: directory, Replica: "history"})
	if err != nil {
		tb.Fatal(err)
	}
	defer j.Close()
	const tenants = 300
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(20) // more of them wait for a slow disk longer than the journal tries
	for i := range tenants {
		work.Go(func() error {
			for k := i; k < syncs; k += tenants {
				if err := storeSync(ctx, j, fmt.Sprintf("tenants/h%03d", i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		tb.Fatal(err)
	}
}

// storeSync stores a sync that succeeded.
func storeSync(ctx context.Context, j *journal.Journal, tenant string) error {
	sync, _, err := j.Create(ctx, port.CreateRequest{Tenant: tenant, Sync: &understudyv1.Sync{}})
	if err != nil {
		return err
	}
	log, err := j.Open(ctx, sync.GetName())
	if err != nil {
		return err
	}
	events := []*understudyv1.SyncEvent{{Event: &understudyv1.SyncEvent_Started{Started: &understudyv1.SyncStarted{Worker: j.Worker()}}}}
	for i := range 30 {
		events = append(events, &understudyv1.SyncEvent{Event: &understudyv1.SyncEvent_ConfigurationCompleted{
			ConfigurationCompleted: &understudyv1.ConfigurationCompleted{Result: &understudyv1.ConfigurationResult{
				ConfigurationType: fmt.Sprintf("entra/type-%d", i), Path: fmt.Sprintf("entra/type-%d", i), ItemCount: 100,
				Outcome: understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED,
			}},
		}})
	}
	if err := log.Append(ctx, events...); err != nil {
		return err
	}
	final := log.Sync()
	final.State = succeeded
	return log.Append(ctx, &understudyv1.SyncEvent{
		Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: final}},
	})
}

// stop ends the process in order.
func (p *process) stop(tb testing.TB) {
	tb.Helper()
	p.connection.Close()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		tb.Fatal(err)
	}
	if err := p.command.Wait(); err != nil {
		tb.Fatal(err)
	}
}

// collect makes the process collect its garbage and give free what it does not need.
func (p *process) collect(tb testing.TB) {
	tb.Helper()
	if err := p.command.Process.Signal(syscall.SIGUSR1); err != nil {
		tb.Fatal(err)
	}
	done := collectedFile(p.command.Process.Pid)
	for deadline := time.Now().Add(20 * time.Second); ; pause(tb.Context(), 10*time.Millisecond) {
		if os.Remove(done) == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal("the process did not collect its garbage")
		}
	}
}

// collectedFile is what a process writes when it has collected its garbage.
func collectedFile(pid int) string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("understudy-collected-%d", pid))
}

// memory returns a line of the process's /proc/self/status, in KiB.
func (p *process) memory(tb testing.TB, what string) int {
	tb.Helper()
	status := readTestFile(tb, fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	_, rest, _ := bytes.Cut(status, []byte(what+":"))
	fields := strings.Fields(string(rest))
	if len(fields) == 0 {
		tb.Fatalf("no %s in %s", what, status)
	}
	kib, err := strconv.Atoi(fields[0])
	if err != nil {
		tb.Fatal(err)
	}
	return kib
}
