package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Config is what a journal is made of. Zero values get the defaults.
type Config struct {
	// Directory is where the embedded engine stores; made when it does not exist.
	// Without use when there is a cluster.
	Directory string
	// Cluster is the engine that several processes share; nil: the embedded one.
	Cluster *Cluster
	// Replica is the name of this process among those that share the journal; the
	// name of the host.
	Replica string
	// Lease is after what time, at the latest, the syncs of a process that died are taken
	// over by another one; 30 seconds.
	Lease time.Duration
	// Retention is how long syncs and their events are kept; 90 days.
	Retention time.Duration
	// RequestIDTTL is how long a request_id is remembered; 24 hours.
	RequestIDTTL time.Duration
	// MaxBytes is how much the embedded engine may store; 1 TiB. What does not fit is
	// refused with a [*port.StorageError], as on a full disk.
	MaxBytes int64
	Logger   *slog.Logger
}

// complete returns the configuration with its defaults.
func (c Config) complete() (Config, error) {
	if c.Lease <= 0 {
		c.Lease = 30 * time.Second
	}
	if c.Retention <= 0 {
		c.Retention = 90 * 24 * time.Hour
	}
	if c.RequestIDTTL <= 0 {
		c.RequestIDTTL = 24 * time.Hour
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 1 << 40
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Replica == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("finding the name of this machine; name the replica in the configuration instead: %w", err)
		}
		c.Replica = host
	}
	if c.Cluster != nil {
		cluster, err := c.Cluster.complete()
		if err != nil {
			return c, err
		}
		c.Cluster = cluster
	}
	return c, nil
}

// Journal is the durable memory of the service. It implements [port.Syncs] and
// [port.Watches]. Close it.
type Journal struct {
	config Config
	logger *slog.Logger
	// worker is the name of this process, new with every start.
	worker string
	// embedded is the engine in this process, or nil.
	embedded *embedded
	conn     *nats.Conn
	names    names
	store    *store
	members  *members
	// done ends background work.
	done context.CancelFunc
	work sync.WaitGroup
	// closing is closed when the journal is.
	closing   chan struct{}
	closeOnce sync.Once

	mu    sync.Mutex
	index *index
	// live has the logs of the syncs that are not finished.
	live map[string]*live
	// ended has the logs of those that finished just now: callers that have seen the
	// end through this process ask for it, and the leader may not have it yet.
	ended map[string]*live
	// creating are tenants that a Create works on.
	creating map[string]chan struct{}
	// replays are the logs of finished syncs that somebody watches; replaying are
	// those that are being read.
	replays   map[string]weak.Pointer[live]
	replaying map[string]chan struct{}
	// prompts are the open prompts of this process, by sync.
	prompts map[string]*understudyv1.SyncEvent
	// sick says, by stream, why it did not store last.
	sick map[string]error
	// changed is closed, and made anew, when a sync was accepted, taken or finished,
	// or a worker came or went.
	changed chan struct{}
}

var (
	_ port.Syncs   = (*Journal)(nil)
	_ port.Watches = (*Journal)(nil)
)

// Open starts the journal and reads what it holds: on its directory, which no other
// process may use, or on a cluster, which others share.
func Open(ctx context.Context, config Config) (_ *Journal, err error) {
	if config, err = config.complete(); err != nil {
		return nil, err
	}
	j := &Journal{
		config: config, logger: config.Logger, worker: config.Replica + "/" + strings.ToLower(nuid.Next()),
		index: newIndex(), live: map[string]*live{}, ended: map[string]*live{}, creating: map[string]chan struct{}{},
		replays: map[string]weak.Pointer[live]{}, replaying: map[string]chan struct{}{},
		prompts: map[string]*understudyv1.SyncEvent{}, sick: map[string]error{},
		closing: make(chan struct{}), changed: make(chan struct{}), names: embeddedNames,
	}
	defer func() {
		if err != nil {
			j.Close()
		}
	}()
	j.members = newMembers(j, j.worker, config.Lease, !j.clustered())
	replicas, patience := 1, embeddedPatience
	if c := config.Cluster; c != nil {
		j.names, replicas, patience = clusterNames(c.Prefix), c.Replicas, clusterPatience
		j.conn, err = c.connect(ctx, j.worker, j.logger)
	} else if j.embedded, err = openEmbedded(config); err == nil {
		j.conn, err = j.embedded.connect()
	}
	if err != nil {
		return nil, err
	}
	if j.store, err = openStore(ctx, j.conn, j.names, replicas, config, patience, j.ready); err != nil {
		return nil, err
	}
	syncs := &follower{
		journal: j, what: j.names.syncs, stream: j.store.syncs, take: j.followRecord,
	}
	events := &follower{
		journal: j, what: j.names.events, stream: j.store.events, take: j.followEvent,
	}
	if err := j.load(ctx, syncs, events); err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	background, done := context.WithCancel(context.WithoutCancel(ctx))
	j.done = done
	j.work.Go(func() { syncs.run(background) })
	j.work.Go(func() { events.run(background) })
	j.work.Go(func() { j.expire(background) })
	j.work.Go(func() { j.mend(background) })
	if !j.clustered() {
		return j, nil
	}
	if err := j.listen(); err != nil {
		return nil, err
	}
	j.work.Go(func() { j.members.beat(background) })
	j.work.Go(func() { j.members.ask(background, syncs, events) })
	j.work.Go(func() { j.members.watch(background) })
	j.work.Go(func() { j.repeatPrompts(background) })
	return j, nil
}

// clustered says whether other processes may share the journal.
func (j *Journal) clustered() bool { return j.config.Cluster != nil }

// listen hears what other processes say without storing it.
func (j *Journal) listen() error {
	if _, err := j.conn.Subscribe(j.names.alive(), j.members.receive); err != nil {
		return fmt.Errorf("listening to the other workers: %w", err)
	}
	if _, err := j.conn.Subscribe(j.names.shown(">"), j.receiveShown); err != nil {
		return fmt.Errorf("listening to what other processes show: %w", err)
	}
	if err := j.conn.FlushTimeout(publishTimeout); err != nil {
		return fmt.Errorf("listening to the other workers: %w", err)
	}
	return nil
}

// Close ends every watcher, says that this process leaves, stops the embedded engine
// and gives the directory free. What was acknowledged is on the disk already.
func (j *Journal) Close() {
	j.closeOnce.Do(func() { close(j.closing) })
	j.Leave()
	if j.done != nil {
		j.done()
	}
	j.work.Wait()
	if j.conn != nil {
		j.conn.SetClosedHandler(nil) // that it is closed is no news
		j.conn.SetDisconnectErrHandler(nil)
		j.conn.Close()
	}
	if j.embedded != nil {
		j.embedded.close()
	}
}

// load reads the records, and opens the logs of the syncs that are not finished.
// One that cannot be read does not keep the others from being used. The followers
// go on behind what was read.
func (j *Journal) load(ctx context.Context, syncs, events *follower) error {
	info, err := j.store.events.Info(ctx)
	if err != nil {
		return err
	}
	events.position.Store(info.State.LastSeq)
	var unfinished []*entry
	for record, err := range j.store.records(ctx) {
		if err != nil {
			return err
		}
		e := record.entry
		j.index.known(e.tenant, record.sequence)
		syncs.position.Store(record.sequence)
		if known := j.index.byName[e.name]; known != nil { // replaced while it was read
			known.finished = known.finished || e.finished
			continue
		}
		j.index.add(e)
		if !e.finished {
			unfinished = append(unfinished, e)
		}
	}
	for _, e := range unfinished {
		l, err := j.loadLive(ctx, e.name)
		if errors.As(err, new(*port.StorageError)) || ctx.Err() != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		if err != nil {
			j.logger.Error("a sync that is not finished cannot be read, and is left out", "sync", e.name, "error", err)
			continue
		}
		if l.over() {
			// Its worker ended between `finished` and the mark of the record.
			e.finished = true
			j.markFinished(ctx, l)
			continue
		}
		j.live[e.name] = l
		j.members.hear(l.state().GetWorker(), 0) // it has a lease from now on
	}
	return nil
}

// loadLive reads the record and the events of a sync.
func (j *Journal) loadLive(ctx context.Context, name string) (*live, error) {
	record, err := j.store.record(ctx, name)
	if err != nil {
		return nil, err
	}
	l := newLive(j, name, record.sync, record.sequence)
	for event, err := range j.store.eventsOf(ctx, name) {
		if err != nil {
			return nil, err
		}
		if event.event.GetSequence() != int64(len(l.events))+1 {
			return nil, fmt.Errorf("event %d follows event %d", event.event.GetSequence(), len(l.events))
		}
		l.addLocked(event)
	}
	return l, nil
}

// expire forgets what the streams have forgotten.
func (j *Journal) expire(ctx context.Context) {
	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			j.mu.Lock()
			j.index.forget(now.Add(-j.config.Retention))
			j.mu.Unlock()
		}
	}
}

// signal says that a sync was accepted, taken or finished, or a worker came or went.
func (j *Journal) signal() {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.changed)
	j.changed = make(chan struct{})
}

// Changed implements [port.Syncs].
func (j *Journal) Changed() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.changed
}

// Worker implements [port.Syncs].
func (j *Journal) Worker() string { return j.worker }
