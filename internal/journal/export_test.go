package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// StopStorage makes the engine refuse everything, as it does after a disk was full.
func (j *Journal) StopStorage() error { return j.embedded.running().DisableJetStream() }

// RestartStorage is what the journal does by itself after a while.
func (j *Journal) RestartStorage(ctx context.Context) error { return j.restartStorage(ctx) }

// LoseAnswer stores events behind the known ones, of which no writer then knows: as
// of an append through log that nobody answered, or, when it is nil, of another
// process.
func (j *Journal) LoseAnswer(ctx context.Context, name string, log port.Log, events ...*understudyv1.SyncEvent) error {
	l, err := j.find(ctx, name)
	if err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	l.mu.Lock()
	p := &pending{id: "lost", left: len(events)}
	for i, event := range events {
		event.Sequence = int64(len(l.events) + i + 1)
	}
	if h, ok := log.(*handle); ok {
		p.handle = h
		l.pending = p
	}
	expected := l.streamSequence
	l.mu.Unlock()
	_, err = j.store.append(ctx, name, p.id, expected, events)
	return err
}

// HoldLog keeps every writer of a sync waiting.
func (j *Journal) HoldLog(ctx context.Context, name string) (release func(), err error) {
	l, err := j.find(ctx, name)
	if err != nil {
		return nil, err
	}
	return l.lock(ctx)
}

// Silence cuts the connection of this process for good, and tells nobody.
func (j *Journal) Silence() { j.conn.Close() }

// Replays is how many logs of finished syncs are in memory.
func (j *Journal) Replays() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.replays)
}

// Stored is how many events of a sync are stored, or -1.
func (j *Journal) Stored(ctx context.Context, name string) int {
	n, err := j.store.count(ctx, j.store.events, j.names.event(key(name)))
	if err != nil {
		return -1
	}
	return int(n)
}

// Fill stores finished syncs in a directory that no journal has open, quickly: what it
// writes is not safe from a power cut.
func Fill(ctx context.Context, directory string, syncs int) error {
	s, err := server.NewServer(&server.Options{
		ServerName: "understudy", DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: directory,
	})
	if err != nil {
		return err
	}
	s.Start()
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	if !s.ReadyForConnections(startTimeout) {
		return errors.New("the engine was not ready in time")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return err
	}
	defer conn.Close()
	config, err := Config{}.complete()
	if err != nil {
		return err
	}
	store, err := openStore(ctx, conn, embeddedNames, 1, config, embeddedPatience, func() error { return nil })
	if err != nil {
		return err
	}
	for i := range syncs {
		id := strings.ToLower(ulid.MustNew(ulid.Timestamp(time.Now())-uint64(syncs-i), nil).String())
		sync := &understudyv1.Sync{
			Name:  fmt.Sprintf("tenants/t%d/syncs/%s", i%300, id),
			State: understudyv1.SyncState_SYNC_STATE_SUCCEEDED, EndTime: timestamppb.Now(), LastSequence: 1,
		}
		record, err := proto.Marshal(sync)
		if err != nil {
			return err
		}
		message := nats.NewMsg(embeddedNames.record(key(sync.GetName())))
		message.Data = record
		message.Header.Set(headerFinished, "true")
		message.Header.Set(headerRequest, id)
		if _, err := store.js.PublishMsgAsync(message); err != nil {
			return err
		}
		event, err := proto.Marshal(&understudyv1.SyncEvent{
			Sequence: 1, Event: &understudyv1.SyncEvent_Finished{Finished: &understudyv1.SyncFinished{Sync: sync}},
		})
		if err != nil {
			return err
		}
		if _, err := store.js.PublishAsync(embeddedNames.event(key(sync.GetName())), event); err != nil {
			return err
		}
	}
	select {
	case <-store.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// StoresBatches says whether a version of the server is new enough.
var StoresBatches = storesBatches

// PutFinished stores the record of a finished sync, the first of its tenant.
func (j *Journal) PutFinished(ctx context.Context, name string) error {
	e := &entry{name: name, tenant: tenantOf(name)}
	sync := &understudyv1.Sync{Name: name, State: understudyv1.SyncState_SYNC_STATE_SUCCEEDED, EndTime: timestamppb.Now()}
	_, err := j.store.putRecord(ctx, e, sync, true, fence{j.names.record(tenantKey(e.tenant)), 0})
	return err
}

// StopFollowing lets this process hear of nothing by itself, as one whose node lags
// behind.
func (j *Journal) StopFollowing() {
	j.done()
	j.work.Wait()
}

// Mark marks the record of a sync that ended just now as over: its worker does, and may
// be late.
func (j *Journal) Mark(ctx context.Context, name string) error {
	j.mu.Lock()
	l := j.ended[name]
	j.mu.Unlock()
	if l == nil {
		return fmt.Errorf("%s did not end just now", name)
	}
	j.markFinished(ctx, l)
	return nil
}

// IsLive says whether a sync is not known to be over.
func (j *Journal) IsLive(name string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.live[name] != nil
}

// Requested is the id of the sync that a request_id stands for, when those that it
// created are heard of in some order.
func Requested(tenant, requestID string, ids ...string) string {
	x := newIndex()
	for _, id := range ids {
		x.add(&entry{name: tenant + "/syncs/" + id, tenant: tenant, requestID: requestID})
	}
	return x.requests[requestKey(tenant, requestID)].id()
}

// MaxAge is how long the stream of events keeps them.
func (j *Journal) MaxAge(ctx context.Context) (time.Duration, error) {
	info, err := j.store.events.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.Config.MaxAge, nil
}

// LosePatience lets a process that follows nothing any more try for a shorter time.
func (j *Journal) LosePatience(patience time.Duration) { j.store.patience = patience }

// Hold keeps every Create of a tenant waiting.
func (j *Journal) Hold(ctx context.Context, tenant string) (release func(), err error) {
	return j.claim(ctx, tenant)
}

// Members is what a worker knows of the others, without a connection.
type Members struct{ m *members }

// NewMembers returns that of a worker, with what it logs.
func NewMembers(worker string, lease time.Duration, logger *slog.Logger) Members {
	return Members{newMembers(&Journal{logger: logger}, worker, lease, false)}
}

// Hear takes in that a worker is alive, with its lease; 0: it does not say it.
func (m Members) Hear(worker string, lease time.Duration) { m.m.hear(worker, lease) }

// Reach takes in that the engine answered at once.
func (m Members) Reach() { m.m.reach(time.Now()) }

// Alive returns who is alive.
func (m Members) Alive() []string { return m.m.alive() }
