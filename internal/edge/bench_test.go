package edge

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/journal"
	"understudy.internal/internal/port"
)

// plainServer streams messages as grpc-go does it with nothing around: what there is
// to be had.
type plainServer struct {
	understudyv1.UnimplementedSyncServiceServer
	events []*understudyv1.SyncEvent
}

func (s *plainServer) WatchSync(_ *understudyv1.WatchSyncRequest, stream grpc.ServerStreamingServer[understudyv1.WatchSyncResponse]) error {
	for _, event := range s.events {
		if err := stream.Send(&understudyv1.WatchSyncResponse{Event: event}); err != nil {
			return err
		}
	}
	return nil
}

// dialPlain serves a plain server and returns a client of it.
func dialPlain(b *testing.B, events []*understudyv1.SyncEvent) understudyv1.SyncServiceClient {
	b.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.MaxConcurrentStreams(1000))
	understudyv1.RegisterSyncServiceServer(server, &plainServer{events: events})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		conn.Close()
		server.Stop()
		<-done
	})
	return understudyv1.NewSyncServiceClient(conn)
}

// deliver lets watchers read the durable events of a sync, and returns how many a
// second all of them together got.
func deliver(ctx context.Context, b *testing.B, client understudyv1.SyncServiceClient, name string, watchers, events int) float64 {
	b.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	began := time.Now()
	for range watchers {
		group.Go(func() {
			stream, err := client.WatchSync(ctx, &understudyv1.WatchSyncRequest{Name: name})
			if err != nil {
				b.Error(err)
				return
			}
			for got := 0; got < events; {
				response, err := stream.Recv()
				if err != nil {
					b.Error(err)
					return
				}
				if response.GetEvent().GetConfigurationCompleted() != nil {
					got++
				}
			}
		})
	}
	group.Wait()
	return float64(watchers*events) / time.Since(began).Seconds()
}

// How many events a second reach 1, 100 and 1,000 watchers, through the whole edge
// over the real journal, and as a part of what plain grpc-go streams of the same
// messages in the same run.
func BenchmarkDelivery(b *testing.B) {
	for _, watchers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			j := openJournal(b, b.TempDir())
			f := serve(b, overJournal(j), func(c *Config) { c.HeartbeatDefault = time.Minute })
			s := newScript(b, j, contoso)
			events := max(200_000/watchers, 400)
			for left := events; left > 0; left -= 500 {
				s.append(min(left, 500))
			}
			var stored []*understudyv1.SyncEvent
			for event, err := range j.Events(b.Context(), s.name, 0) {
				if err != nil {
					b.Fatal(err)
				}
				stored = append(stored, event)
			}
			plain := dialPlain(b, stored)
			var ratios, rates []float64
			for b.Loop() {
				floor := deliver(b.Context(), b, plain, s.name, watchers, events)
				rate := deliver(b.Context(), b, f.client, s.name, watchers, events)
				ratios, rates = append(ratios, rate/floor), append(rates, rate)
			}
			b.ReportMetric(median(rates), "events/s")
			b.ReportMetric(median(ratios), "x-plain-grpc")
		})
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// How long an event takes from its append to the last of 1, 100 and 1,000 watchers,
// when 1,000 a second are appended, each durable before it is shown.
func BenchmarkAppendToDelivery(b *testing.B) {
	for _, watchers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			events := 1000
			if watchers == 1000 {
				events = 100 // what two cores deliver is the limit: 100 a second
			}
			var p50, p99 []float64
			for b.Loop() {
				late := appendToDelivery(b, watchers, events)
				slices.Sort(late)
				p50, p99 = append(p50, late[len(late)/2]), append(p99, late[len(late)*99/100])
			}
			b.ReportMetric(float64(events), "appends/s")
			b.ReportMetric(median(p50), "p50-ms")
			b.ReportMetric(median(p99), "p99-ms")
		})
	}
}

// appendToDelivery appends events for a second, evenly, and returns how many
// milliseconds each took to each watcher.
func appendToDelivery(b *testing.B, watchers, events int) []float64 {
	b.Helper()
	j, err := journal.Open(b.Context(), journal.Config{Directory: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	f := serve(b, overJournal(j), func(c *Config) { c.HeartbeatDefault = time.Minute })
	s := newScript(b, j, contoso)
	log, err := j.Open(b.Context(), s.name)
	if err != nil {
		b.Fatal(err)
	}
	began := make([]time.Time, events)
	var mu sync.Mutex
	var late []float64
	var readers, ready sync.WaitGroup
	ready.Add(watchers)
	for range watchers {
		readers.Go(func() { collect(b, f, s.name, events, began, &mu, &late, ready.Done) })
	}
	ready.Wait()
	pace := time.NewTicker(time.Second / time.Duration(events))
	defer pace.Stop()
	for i := range events {
		<-pace.C
		appendTimed(b, log, began, i, &mu)
	}
	readers.Wait()
	return late
}

func appendTimed(b *testing.B, log port.Log, began []time.Time, i int, mu *sync.Mutex) {
	mu.Lock()
	began[i] = time.Now()
	mu.Unlock()
	if err := log.Append(b.Context(), durable(fmt.Sprintf("entra/t%d", i))); err != nil {
		b.Fatal(err)
	}
}

// collect reads the events of one watcher.
func collect(b *testing.B, f *fixture, name string, events int, began []time.Time, mu *sync.Mutex, late *[]float64, ready func()) {
	stream, err := f.client.WatchSync(b.Context(), &understudyv1.WatchSyncRequest{Name: name})
	if err != nil {
		b.Error(err)
		ready()
		return
	}
	mine := make([]time.Time, 0, events)
	for first := true; len(mine) < events; {
		response, err := stream.Recv()
		if err != nil {
			b.Error(err)
			break
		}
		if first {
			ready()
			first = false
		}
		if response.GetEvent().GetConfigurationCompleted() != nil {
			mine = append(mine, time.Now())
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for i, at := range mine {
		*late = append(*late, float64(at.Sub(began[i]).Microseconds())/1000)
	}
}
