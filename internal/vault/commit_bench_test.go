package vault

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Sizes of the benchmarks.
const (
	benchItems = 10_000
	benchTypes = 50
	benchSize  = 2 << 10
)

type benchItem struct {
	t        *catalog.Type
	id       string
	document []byte
}

func (i benchItem) path() string { return i.t.ID + "/" + i.id + fileEnding }

// benchList makes items of a generation: the same names, other contents. They are
// canonical already, so that both sides store the same.
func benchList(b *testing.B, types []*catalog.Type, n int, generation uint64) []benchItem {
	b.Helper()
	random := rand.New(rand.NewPCG(generation, 3))
	r := mustRules(b, &catalog.Type{})
	items := make([]benchItem, n)
	for i := range items {
		document, err := r.canonical(policy(random, benchSize))
		if err != nil {
			b.Fatal(err)
		}
		items[i] = benchItem{t: types[i%len(types)], id: fmt.Sprintf("item-%05d", i), document: document}
	}
	return items
}

func benchCatalog() []*catalog.Type {
	types := make([]*catalog.Type, benchTypes)
	for i := range types {
		types[i] = &catalog.Type{ID: fmt.Sprintf("intune/type-%02d", i)}
	}
	return types
}

// vaultCommit does one sync that read items; those of types that it does not name
// completely keep the rest.
func vaultCommit(b *testing.B, v *Vault, items []benchItem, reading port.Reading) {
	b.Helper()
	staging, err := v.Begin(b.Context(), port.Turn{Attempt: 1})
	if err != nil {
		b.Fatal(err)
	}
	types := map[string]*catalog.Type{}
	for _, item := range items {
		types[item.t.ID] = item.t
		if err := staging.Add(item.t, port.Item{ID: item.id, DisplayName: item.id, JSON: item.document}); err != nil {
			b.Fatal(err)
		}
	}
	reading.Time = time.Now()
	for _, t := range types {
		if _, err := staging.Settle(t, reading); err != nil {
			b.Fatal(err)
		}
	}
	snapshot, err := staging.Commit(b.Context(), port.CommitInfo{Sync: "x", Time: time.Now()})
	if err != nil || !snapshot.GetCreated() {
		b.Fatal(snapshot, err)
	}
	if err := staging.Close(); err != nil {
		b.Fatal(err)
	}
}

// fastImport lets git make a commit of the same files, as durably as it can.
func fastImport(b *testing.B, repository string, items []benchItem, first bool) time.Duration {
	b.Helper()
	var in bytes.Buffer
	fmt.Fprintf(&in, "commit refs/heads/main\ncommitter A <a@example.com> %d +0000\ndata 1\nx\n", time.Now().Unix())
	if !first {
		in.WriteString("from refs/heads/main^0\n")
	}
	for _, item := range items {
		fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n", item.path(), len(item.document))
		in.Write(item.document)
		in.WriteByte('\n')
	}
	command := exec.CommandContext(b.Context(), "git", "-C", repository, "-c", "core.fsync=all", "-c", "core.fsyncMethod=fsync",
		"-c", "fastimport.unpackLimit=1", "fast-import", "--quiet")
	command.Stdin = &in
	begin := time.Now()
	if out, err := command.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return time.Since(begin)
}

func bareRepository(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "floor.git")
	git(b, b.TempDir(), "init", "-q", "--bare", "--initial-branch=main", path)
	return path
}

func benchVault(b *testing.B) *Vault { return newVault(b, nil) }

// BenchmarkCommit compares a sync from Begin to Close with git fast-import: less
// than 1 is faster than git. Medians, because the disk is shared.
func BenchmarkCommit(b *testing.B) {
	types := benchCatalog()
	b.Run("10_changed_of_10000", func(b *testing.B) {
		v, repository := benchVault(b), bareRepository(b)
		func() { // so that the list is not kept, and marked again and again
			items := benchList(b, types, benchItems, 1)
			fastImport(b, repository, items, true)
			vaultCommit(b, v, items, port.Reading{Outcome: complete})
		}()
		generation := uint64(1)
		some := func() []benchItem {
			generation++
			return benchList(b, types, 10, generation)
		}
		// One after the other, not in turns: what starting a process costs those who
		// run after it is not our cost.
		var floor, ours []time.Duration
		for range 20 {
			floor = append(floor, fastImport(b, repository, some(), false))
		}
		for b.Loop() {
			list := some()
			begin := time.Now()
			vaultCommit(b, v, list, port.Reading{Outcome: incomplete, Reason: serverError})
			ours = append(ours, time.Since(begin))
		}
		report(b, ours, floor, "x_of_fast_import")
	})
	b.Run("10000_items", func(b *testing.B) {
		items := benchList(b, types, benchItems, 1)
		var floor, ours []time.Duration
		for b.Loop() {
			floor = append(floor, fastImport(b, bareRepository(b), items, true))
			v := benchVault(b)
			begin := time.Now()
			vaultCommit(b, v, items, port.Reading{Outcome: complete})
			ours = append(ours, time.Since(begin))
		}
		report(b, ours, floor, "x_of_fast_import")
	})
}

func report(b *testing.B, ours, floor []time.Duration, unit string) {
	b.Helper()
	slices.Sort(ours)
	slices.Sort(floor)
	median := ours[len(ours)/2]
	b.ReportMetric(float64(median)/float64(floor[len(floor)/2]), unit)
	b.ReportMetric(float64(median.Microseconds())/1000, "median_ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPush compares a push through this package with git push: all of 10,000
// items to an empty repository on the same disk.
func BenchmarkPush(b *testing.B) {
	items := benchList(b, benchCatalog(), benchItems, 1)
	var floor, ours []time.Duration
	for b.Loop() {
		remote := bareRepository(b)
		v := newVault(b, func(c *Config) { c.Remote = &Remote{URL: remote} })
		vaultCommit(b, v, items, port.Reading{Outcome: complete})
		staging, err := v.Begin(b.Context(), port.Turn{Attempt: 1})
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		if _, err := staging.Push(b.Context()); err != nil {
			b.Fatal(err)
		}
		ours = append(ours, time.Since(begin))
		if err := staging.Close(); err != nil {
			b.Fatal(err)
		}
		other := bareRepository(b)
		begin = time.Now()
		git(b, v.config.Directory, "push", "-q", other, "main")
		floor = append(floor, time.Since(begin))
	}
	report(b, ours, floor, "x_of_git_push")
}
