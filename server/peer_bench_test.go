package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy.internal/internal/simulator"
)

// peerItems is how many items the peer reads: it takes 50 ms for each, and 50 more
// for each page of 100.
const peerItems = 200

// BenchmarkPeer backs the same tenant up by the whole service, from RunSync to
// `finished`, and by a reader that works as most tools do: one request at a time,
// no batches, a file for each item. Both read the same collections, with the
// assignments of each item, at 50 ms an answer. It reports how many times longer
// the peer takes; `make bench-peer` prints it.
func BenchmarkPeer(b *testing.B) {
	ctx := b.Context()
	l := newProcessLab(ctx, b, simulator.Config{Seed: 1, Items: peerItems / len(benchTypes), Latency: benchLatency}, benchTypeIDs())
	server := startServer(ctx, b, l.configFile())
	wire, err := newFloor(ctx, l)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(wire.client.CloseIdleConnections)
	var own, other time.Duration
	for b.Loop() {
		start := time.Now()
		if err := runOnce(ctx, server.client); err != nil {
			b.Fatal(err)
		}
		own += time.Since(start)
		start = time.Now()
		peer := serialReader{wire: wire, folder: b.TempDir()}
		if err := peer.run(ctx); err != nil {
			b.Fatal(err)
		}
		other += time.Since(start)
		if peer.items != peerItems {
			b.Fatalf("the peer read %d items, not %d", peer.items, peerItems)
		}
	}
	b.ReportMetric(other.Seconds()/own.Seconds(), "x-faster-than-peer")
	b.ReportMetric(own.Seconds()/float64(b.N), "s/sync")
	b.ReportMetric(other.Seconds()/float64(b.N), "s/peer")
}

// serialReader is the peer.
type serialReader struct {
	wire   *floor
	folder string
	items  int
}

func (p *serialReader) run(ctx context.Context) error {
	for _, path := range benchTypes {
		for next := p.wire.address + path; next != ""; {
			var page struct {
				Next  string           `json:"@odata.nextLink"`
				Value []map[string]any `json:"value"`
			}
			if err := p.get(ctx, next, &page); err != nil {
				return err
			}
			next = page.Next
			for _, item := range page.Value {
				if err := p.item(ctx, path, item); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (p *serialReader) item(ctx context.Context, path string, item map[string]any) error {
	var assignments struct {
		Value []map[string]any `json:"value"`
	}
	address := fmt.Sprintf("%s%s/%v/assignments", p.wire.address, path, item["id"])
	if err := p.get(ctx, address, &assignments); err != nil {
		return err
	}
	item["assignments"] = assignments.Value
	content, err := json.MarshalIndent(item, "", "  ")
	if err != nil {
		return err
	}
	p.items++
	return os.WriteFile(filepath.Join(p.folder, fmt.Sprintf("%v.json", item["id"])), content, 0o600)
}

func (p *serialReader) get(ctx context.Context, address string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", p.wire.token)
	response, err := p.wire.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", address, response.Status)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}
