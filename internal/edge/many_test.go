package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

const (
	manyWatchers = 1000
	// manyMute of them never read.
	manyMute   = 50
	manyEvents = 40
	// What flow control lets a client that does not read have: its window, and the
	// server's write buffer; and what a stream costs else, on both sides.
	mostPerWatcher = 128 << 10
)

// A thousand clients watch one sync, and some never read. The others get every event
// as if they were alone, and those that do not read are let go with where to resume;
// until then each holds a bounded amount of memory. The clock is the bubble's: it only
// moves when everybody waits, so that an event that came at once took no time at all.
func TestThousandWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := serve(t)
		began, before := time.Now(), heap()
		var readers sync.WaitGroup
		var mutes []grpc.ServerStreamingClient[understudyv1.WatchSyncResponse]
		ctx, cancel := context.WithCancel(t.Context())
		var connections []*grpc.ClientConn
		for i := range manyWatchers {
			if i%100 == 0 {
				connections = append(connections, f.dial(t, grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(1<<20)))
			}
			client := understudyv1.NewSyncServiceClient(connections[len(connections)-1])
			stream, err := client.WatchSync(ctx, &understudyv1.WatchSyncRequest{Name: syncA})
			if err != nil {
				t.Fatal(err)
			}
			if i%(manyWatchers/manyMute) == 0 {
				mutes = append(mutes, stream) // between readers on the same connection
				continue
			}
			readers.Go(func() {
				if err := readsAll(stream, 0, manyEvents+1); err != nil {
					t.Errorf("watcher %d: %v", i, err)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("watcher %d was delayed by %s", i, took)
				}
			})
		}
		synctest.Wait()
		if open, slow := f.server.Watchers(); open != manyWatchers || slow != 0 {
			t.Fatalf("%d watchers, %d slow ones", open, slow)
		}
		long := strings.Repeat("x", 5000)
		for i := range manyEvents {
			f.journal.append(durable(fmt.Sprintf("entra/%d-%s", i, long)))
		}
		synctest.Wait()
		used := (heap() - before) / manyWatchers
		t.Logf("a watcher holds %d KiB, both sides together", used>>10)
		if used > mostPerWatcher {
			t.Error("that is too much")
		}
		f.journal.append(finished(understudyv1.SyncState_SYNC_STATE_SUCCEEDED))
		readers.Wait()

		for _, check := range []struct{ after, slow, open int64 }{{29, 0, manyMute}, {31, manyMute, 0}} {
			<-time.After(time.Duration(check.after)*time.Second - time.Since(began))
			synctest.Wait()
			if open, slow := f.server.Watchers(); open != check.open || slow != check.slow {
				t.Errorf("after %d s %d watchers are open and %d were let go", check.after, open, slow)
			}
		}
		for _, stream := range mutes {
			resumes(t, stream)
		}
		cancel()
		for _, connection := range connections {
			connection.Close()
		}
		f.conn.Close()
		f.stop()
		if err := f.wait(); err != nil {
			t.Error(err)
		}
	})
}

// readsAll demands the durable events of a stream after a sequence, each once and in
// order, and its end.
func readsAll(stream grpc.ServerStreamingClient[understudyv1.WatchSyncResponse], last, want int64) error {
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) && last == want {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after event %d: %w", last, err)
		}
		event := response.GetEvent()
		if event.GetCurrentState() != nil || event.GetHeartbeat() != nil {
			continue
		}
		if last++; event.GetSequence() != last {
			return fmt.Errorf("event %d came as %d", event.GetSequence(), last)
		}
	}
}

// resumes demands that a stream that was not read says where to resume, once it is.
func resumes(t *testing.T, stream grpc.ServerStreamingClient[understudyv1.WatchSyncResponse]) {
	t.Helper()
	last := int64(0)
	for {
		response, err := stream.Recv()
		if err == nil {
			last = response.GetEvent().GetSequence()
			continue
		}
		said, _ := strconv.ParseInt(detail[*errdetails.ErrorInfo](err).GetMetadata()["lastSequence"], 10, 64)
		// The message that was waiting may have gone out after the server gave up.
		if status.Code(err) != codes.ResourceExhausted || detail[*errdetails.RetryInfo](err) == nil || said > last || said < last-1 ||
			reason(err) != understudyv1.ErrorReason_ERROR_REASON_WATCHER_TOO_SLOW.String() || last == manyEvents+1 {
			t.Errorf("the client has %d: %v", last, err)
		}
		return
	}
}

// heap returns the bytes that are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what pools keep goes with the second
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
