package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/simulator"
)

// unpack unpacks an archive of files into a folder.
func unpack(t testing.TB, archive, folder string) {
	t.Helper()
	file, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	content, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	for reader := tar.NewReader(content); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, filepath.FromSlash(header.Name))
		if header.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A data_dir that an earlier version wrote, and was killed over, is opened: its history
// is there, its unfinished sync ends under its name, and the next sync goes on from its
// backup.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	archives, err := filepath.Glob("testdata/upgrade/*.tar.gz")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, archive := range archives {
		t.Run(filepath.Base(archive), func(t *testing.T) { upgrade(t, archive) })
	}
}

func upgrade(t *testing.T, archive string) {
	ctx, cancel := context.WithTimeout(t.Context(), harnessTimeout)
	defer cancel()
	l := newProcessLab(ctx, t, simulator.Config{Seed: 1, Items: 2}, harnessTypes)
	unpack(t, archive, l.Folder)
	// The archive grows older with every day.
	content := replaceOnce(t, string(readTestFile(t, l.configFile())), "\nlimits:\n", "\njournal: {retention: 876000h}\nlimits:\n  sync_timeout: 876000h\n")
	writeTestFile(t, l.configFile(), content)
	server := startServer(ctx, t, l.configFile())

	page, err := server.client.ListSyncs(ctx, &understudyv1.ListSyncsRequest{Parent: "tenants/contoso"})
	if err != nil || len(page.GetSyncs()) != 3 {
		t.Fatalf("the history is %v: %v", page.GetSyncs(), err)
	}
	for i, s := range page.GetSyncs() {
		w := &witness{name: s.GetName()}
		if err := w.attend(ctx, func() understudyv1.SyncServiceClient { return server.client }); err != nil {
			t.Fatalf("%v\n%s", err, w.story())
		}
		final := w.final()
		if final.GetState() != succeeded || final.GetCounts().GetTotal() != int32(len(harnessTypes)) {
			t.Errorf("sync %d ended as %v\n%s", i, final, w.story())
		}
		if unfinished := i == 0; unfinished != (final.GetAttempt() > 1) {
			t.Errorf("sync %d: %v\n%s", i, final, w.story())
		}
		results, err := server.client.ListConfigurationResults(ctx, &understudyv1.ListConfigurationResultsRequest{Parent: w.name})
		if err != nil || len(results.GetResults()) != len(harnessTypes) {
			t.Errorf("sync %d has %d results: %v", i, len(results.GetResults()), err)
		}
	}
	before := runGit(t, "-C", l.repository("contoso"), "rev-list", "--count", "main")
	if err := l.simulator.ChangeItem(groups, 0); err != nil {
		t.Fatal(err)
	}
	stream, err := server.client.RunSync(ctx, &understudyv1.RunSyncRequest{Parent: "tenants/contoso"})
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if after := runGit(t, "-C", l.repository("contoso"), "rev-list", "--count", "main"); after == before || before < "2" {
		t.Errorf("%s commits after the next sync, %s before", after, before)
	}
	runGit(t, "-C", l.repository("contoso"), "fsck", "--full", "--strict")
}
