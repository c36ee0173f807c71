package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy.internal/internal/port"
)

// Config is what a journal is made of. Zero values get the defaults.
type Config struct {
	// Directory is where the journal stores; made when it does not exist.
	Directory string
	// Replica is the name of this process among those that share the journal; the
	// name of the host.
	Replica string
	// Retention is how long syncs and their events are kept; 90 days.
	Retention time.Duration
	// RequestIDTTL is how long a request_id is remembered; 24 hours.
	RequestIDTTL time.Duration
	// MaxBytes is how much may be stored; 1 TiB. What does not fit is refused with
	// a [*port.StorageError], as on a full disk.
	MaxBytes int64
	Logger   *slog.Logger
}

// Journal is the durable memory of the service. It implements [port.Syncs] and
// [port.Watches]. Close it.
type Journal struct {
	config Config
	logger *slog.Logger
	lock   *flock.Flock
	server *server.Server
	conn   *nats.Conn
	store  *store
	worker string
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
	// creating are tenants that a Create works on.
	creating map[string]chan struct{}
	// sick says, by stream, why it did not store last.
	sick map[string]error
	// changed is closed, and made anew, when a sync was accepted, taken or finished.
	changed chan struct{}
}

var (
	_ port.Syncs   = (*Journal)(nil)
	_ port.Watches = (*Journal)(nil)
)

const (
	// startTimeout bounds the start of the embedded server.
	startTimeout = 30 * time.Second
	// mendInterval is how often it is looked whether the engine stores;
	// longestMendInterval after it was mended in vain.
	mendInterval        = 10 * time.Second
	longestMendInterval = time.Minute
	maxMemory           = 64 << 20
)

// Open starts the journal on its directory, which no other process may use, and
// reads what it holds.
func Open(ctx context.Context, config Config) (_ *Journal, err error) {
	if config.Retention <= 0 {
		config.Retention = 90 * 24 * time.Hour
	}
	if config.RequestIDTTL <= 0 {
		config.RequestIDTTL = 24 * time.Hour
	}
	if config.MaxBytes <= 0 {
		config.MaxBytes = 1 << 40
	}
	j := &Journal{
		config: config, logger: config.Logger, index: newIndex(),
		live: map[string]*live{}, creating: map[string]chan struct{}{},
		sick: map[string]error{}, closing: make(chan struct{}), changed: make(chan struct{}),
	}
	if j.worker, err = workerName(config.Replica); err != nil {
		return nil, err
	}
	if j.logger == nil {
		j.logger = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			j.Close()
		}
	}()
	if err := j.takeDirectory(); err != nil {
		return nil, err
	}
	if err := j.startServer(); err != nil {
		return nil, err
	}
	if j.store, err = openStore(ctx, j.conn, config.Retention); err != nil {
		return nil, err
	}
	if err := j.load(ctx); err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	background, done := context.WithCancel(context.WithoutCancel(ctx))
	j.done = done
	j.work.Go(func() { j.expire(background) })
	j.work.Go(func() { j.mend(background) })
	return j, nil
}

// takeDirectory makes the directory and locks it: JetStream does not notice a
// second process on the same store.
func (j *Journal) takeDirectory() error {
	if err := os.MkdirAll(j.config.Directory, 0o700); err != nil {
		return fmt.Errorf("making the journal's directory: %w", err)
	}
	lock := flock.New(filepath.Join(j.config.Directory, "lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("locking the journal's directory: %w", err)
	}
	if !locked {
		return fmt.Errorf("the journal in %s is in use by another process: stop it, or use another data_dir", j.config.Directory)
	}
	j.lock = lock
	return nil
}

func (j *Journal) startServer() error {
	options := &server.Options{
		ServerName: "understudy",
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   j.config.Directory,
		// Required: without it a power cut loses acknowledged events.
		SyncAlways:         true,
		JetStreamMaxMemory: maxMemory,
		JetStreamMaxStore:  j.config.MaxBytes,
	}
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("making the journal's engine: %w", err)
	}
	s.SetLoggerV2(&engineLogger{j.logger}, false, false, false)
	j.server = s
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		return fmt.Errorf("the journal's engine in %s was not ready within %s", j.config.Directory, startTimeout)
	}
	if !s.JetStreamEnabled() {
		return fmt.Errorf("the journal's engine cannot use %s: see the log", j.config.Directory)
	}
	j.conn, err = nats.Connect("", nats.InProcessServer(s), nats.MaxReconnects(-1))
	if err != nil {
		return fmt.Errorf("connecting to the journal's engine: %w", err)
	}
	return nil
}

// Close ends every watcher, stops the engine and gives the directory free. What
// was acknowledged is on the disk already.
func (j *Journal) Close() {
	j.closeOnce.Do(func() { close(j.closing) })
	if j.done != nil {
		j.done()
	}
	j.work.Wait()
	if j.conn != nil {
		j.conn.Close()
	}
	if j.server != nil {
		j.server.Shutdown()
		j.server.WaitForShutdown()
	}
	if j.lock != nil {
		if err := j.lock.Unlock(); err != nil {
			j.logger.Warn("unlocking the journal's directory failed", "error", err)
		}
	}
}

// load reads the records, and opens the logs of the syncs that are not finished.
// One that cannot be read does not keep the others from being used.
func (j *Journal) load(ctx context.Context) error {
	var unfinished []*entry
	for e, err := range j.store.records(ctx) {
		if err != nil {
			return err
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
			// Killed between `finished` and the mark of the record.
			e.finished = true
			j.markFinished(ctx, l)
			continue
		}
		j.live[e.name] = l
		j.index.running[e.tenant] = e.name
	}
	return nil
}

// loadLive reads the record and the events of a sync.
func (j *Journal) loadLive(ctx context.Context, name string) (*live, error) {
	record, recordSequence, err := j.store.record(ctx, name)
	if err != nil {
		return nil, err
	}
	l := newLive(j, name, record, recordSequence)
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

// Healthy returns why the journal cannot store, or nil.
func (j *Journal) Healthy() error {
	if !j.server.JetStreamEnabled() {
		return &port.StorageError{Err: errors.New("the journal's engine has stopped storing")}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return cmp.Or(j.sick[syncsStream], j.sick[eventsStream])
}

// stored notes whether a stream stored what it was given: one of them may not though
// the other does.
func (j *Journal) stored(stream string, err error) {
	if err != nil && !errors.As(err, new(*port.StorageError)) {
		return // it was not the engine's fault
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sick[stream] = err
}

// signal says that a sync was accepted, taken or finished.
func (j *Journal) signal() {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.changed)
	j.changed = make(chan struct{})
}

// mend restarts the engine's storage when it is sick: after a write that failed (a
// full disk) a stream stores nothing any more until it is opened anew, also when
// there is room again. What was stored stays; what was not acknowledged is found
// out by those who wrote it.
func (j *Journal) mend(ctx context.Context) {
	for pause := mendInterval; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = mendInterval
		if j.Healthy() == nil {
			continue
		}
		j.logger.Warn("the journal's engine does not store, and is restarted")
		if err := j.restartStorage(ctx); err != nil {
			j.logger.Error("the journal's engine still does not store", "error", err)
			pause = longestMendInterval // reading is interrupted too
		}
	}
}

func (j *Journal) restartStorage(ctx context.Context) error {
	if err := j.server.DisableJetStream(); err != nil {
		return err
	}
	if err := j.server.EnableJetStream(&server.JetStreamConfig{
		StoreDir: j.config.Directory, SyncAlways: true, MaxMemory: maxMemory, MaxStore: j.config.MaxBytes,
	}); err != nil {
		return err
	}
	return j.probe(ctx)
}

// probe finds out whether both streams store.
func (j *Journal) probe(ctx context.Context) error {
	var failures []error
	for name, stream := range map[string]jetstream.Stream{syncsStream: j.store.syncs, eventsStream: j.store.events} {
		err := j.store.probe(ctx, name, stream)
		j.stored(name, err)
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// engineLogger brings warnings and errors of the engine into the log.
type engineLogger struct{ logger *slog.Logger }

func (l *engineLogger) Noticef(string, ...any) {}
func (l *engineLogger) Debugf(string, ...any)  {}
func (l *engineLogger) Tracef(string, ...any)  {}

func (l *engineLogger) Warnf(format string, v ...any) {
	l.logger.Warn("journal engine", "detail", fmt.Sprintf(format, v...))
}

func (l *engineLogger) Errorf(format string, v ...any) {
	l.logger.Error("journal engine", "detail", fmt.Sprintf(format, v...))
}

func (l *engineLogger) Fatalf(format string, v ...any) {
	l.logger.Error("journal engine", "detail", fmt.Sprintf(format, v...))
}

// storageError wraps a failure of the engine; what the context says stays.
func storageError(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return &port.StorageError{Err: err}
}
