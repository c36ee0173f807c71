package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy.internal/internal/simulator"
)

// benchItemsVariable names an environment variable with the sizes of the tenants
// that BenchmarkLargeSync takes, in place of benchItems: `10000,100000,1000000`.
const benchItemsVariable = "UNDERSTUDY_BENCH_ITEMS"

// benchItems are small enough for every change; `make bench-large` takes the sizes
// that docs/benchmarks.md shows.
const benchItems = "2000,10000"

// BenchmarkLargeSync backs up tenants of many items with a child each, at 50 ms an
// answer: a first sync, which stores everything, and a second, which finds nothing
// changed. The service is a process of its own, so that its memory is only its own;
// the simulated tenant and the floor are in this one. It reports
//
//   - x-of-floor: the first sync against the least HTTP work; see BenchmarkSync.
//     Goal: at most 1.3;
//   - x-of-first: the second sync against the first. Goal: at most 1;
//   - x-of-size: how many times longer the first sync takes than that of the size
//     before. Goal: at most 1.05 for every time that there are more items;
//   - MiB-peak: the most memory that the process had resident, as the system counted
//     it. Goal: 150 at 100,000 items, 250 at 1,000,000.
func BenchmarkLargeSync(b *testing.B) {
	sizes := os.Getenv(benchItemsVariable)
	if sizes == "" {
		sizes = benchItems
	}
	var before time.Duration
	for size := range strings.SplitSeq(sizes, ",") {
		items, err := strconv.Atoi(size)
		if err != nil {
			b.Fatalf("%s: %v", benchItemsVariable, err)
		}
		b.Run("items="+size, func(b *testing.B) {
			var sum largeSync
			for b.Loop() {
				sum.add(measureLarge(b, items))
			}
			n := float64(b.N)
			b.ReportMetric(sum.first.Seconds()/sum.floor.Seconds(), "x-of-floor")
			b.ReportMetric(sum.second.Seconds()/sum.first.Seconds(), "x-of-first")
			if before > 0 {
				b.ReportMetric(sum.first.Seconds()/n/before.Seconds(), "x-of-size")
			}
			b.ReportMetric(sum.peak, "MiB-peak")
			b.ReportMetric(sum.first.Seconds()/n, "s/first")
			before = sum.first / time.Duration(b.N)
		})
	}
}

// largeSync is what was measured of a tenant.
type largeSync struct {
	first, second, floor time.Duration
	peak                 float64 // MiB
}

func (s *largeSync) add(other largeSync) {
	s.first += other.first
	s.second += other.second
	s.floor += other.floor
	s.peak = max(s.peak, other.peak)
}

// measureLarge backs one tenant up, twice. It demands that the second sync asked
// for the same as the first, and made no commit.
func measureLarge(b *testing.B, items int) largeSync {
	b.Helper()
	ctx := b.Context()
	l := newProcessLab(ctx, b, simulator.Config{Seed: 1, Items: items / len(benchTypes), Latency: benchLatency}, benchTypeIDs())
	defer l.simulator.Close()
	server := startServer(ctx, b, l.configFile())
	var s largeSync
	timed := func(what func() error) time.Duration {
		start := time.Now()
		if err := what(); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	s.first = timed(func() error { return runOnce(ctx, server.client) })
	gets, head := l.simulator.Stats().Paths, tipOf(b, l)
	s.second = timed(func() error { return runOnce(ctx, server.client) })
	for path, n := range l.simulator.Stats().Paths {
		if n != 2*gets[path] {
			b.Errorf("the first sync asked %d times for %s, the second %d times", gets[path], path, n-gets[path])
		}
	}
	if again := tipOf(b, l); again != head {
		b.Errorf("the second sync made the commit %s", again)
	}
	s.peak = server.peak(b)
	floor, err := newFloor(ctx, l)
	if err != nil {
		b.Fatal(err)
	}
	defer floor.client.CloseIdleConnections()
	s.floor = timed(func() error { return floor.run(ctx) })
	return s
}

// benchTypeIDs are the ids of benchTypes.
func benchTypeIDs() []string { return slices.Sorted(maps.Keys(benchTypes)) }

// newProcessLab starts a simulated tenant in this process, and writes the files of
// a service that is to run in another.
func newProcessLab(ctx context.Context, tb testing.TB, tenant simulator.Config, types []string) *lab {
	tb.Helper()
	sim, err := simulator.New(tenant)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(sim.Close)
	if err := sim.Start(ctx); err != nil {
		tb.Fatal(err)
	}
	l := &lab{labConfig: labConfig{Folder: tb.TempDir(), GRPC: "127.0.0.1:0", SignInTimeout: time.Second, Types: types}, simulator: sim}
	if err := os.WriteFile(filepath.Join(l.Folder, "ca.pem"), sim.CAPEM(), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := l.writeFiles(); err != nil {
		tb.Fatal(err)
	}
	return l
}

// tipOf returns the commit of contoso's backup.
func tipOf(tb testing.TB, l *lab) string {
	tb.Helper()
	content, err := os.ReadFile(filepath.Join(l.repository("contoso"), "refs", "heads", "main"))
	if err != nil {
		tb.Fatal(err)
	}
	return string(content)
}

// peak returns the most memory that the process had resident, in MiB, and ends it.
// Where the system has no /proc it is an upper limit: what the kernel tells of a
// process that ended counts the memory of the one that started it, too.
func (p *process) peak(tb testing.TB) float64 {
	tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	p.kill()
	if err == nil {
		if found := highWater.FindSubmatch(status); found != nil {
			kilobytes, err := strconv.Atoi(string(found[1]))
			if err != nil {
				tb.Fatal(err)
			}
			return float64(kilobytes) / (1 << 10)
		}
	}
	usage, ok := p.command.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		tb.Fatalf("the system does not say what %s used", p.command)
	}
	if runtime.GOOS == "darwin" { // counts bytes, the others kilobytes
		return float64(usage.Maxrss) / (1 << 20)
	}
	return float64(usage.Maxrss) / (1 << 10)
}

var highWater = regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`)
