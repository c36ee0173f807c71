package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// startTimeout bounds the start of the embedded server.
	startTimeout = 30 * time.Second
	maxMemory    = 64 << 20
	// maxPayload leaves room for the greatest value of a [Store] and its header.
	maxPayload = 2 << 20
)

// embedded is the engine in this process, and the directory that it stores in.
type embedded struct {
	config Config
	lock   *flock.Flock

	mu     sync.Mutex
	server *server.Server // replaced by restart
}

var _ nats.InProcessConnProvider = (*embedded)(nil)

// openEmbedded takes the directory and starts the engine on it. What it returns is
// to be closed also when it fails.
func openEmbedded(config Config) (*embedded, error) {
	e := &embedded{config: config}
	if err := e.takeDirectory(); err != nil {
		return e, err
	}
	return e, e.start()
}

// takeDirectory makes the directory and locks it: JetStream does not notice a
// second process on the same store.
func (e *embedded) takeDirectory() error {
	if err := os.MkdirAll(e.config.Directory, 0o700); err != nil {
		return fmt.Errorf("making the journal's directory: %w", err)
	}
	lock := flock.New(filepath.Join(e.config.Directory, "lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return fmt.Errorf("locking the journal's directory: %w", err)
	}
	if !locked {
		return fmt.Errorf("the journal in %s is in use by another process: stop it, or use another data_dir", e.config.Directory)
	}
	e.lock = lock
	return nil
}

func (e *embedded) start() error {
	options := &server.Options{
		ServerName: "understudy",
		DontListen: true,
		NoSigs:     true,
		JetStream:  true,
		StoreDir:   e.config.Directory,
		// Required: without it a power cut loses acknowledged events.
		SyncAlways:         true,
		JetStreamMaxMemory: maxMemory,
		JetStreamMaxStore:  e.config.MaxBytes,
		MaxPayload:         maxPayload,
	}
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("making the journal's engine: %w", err)
	}
	s.SetLoggerV2(&engineLogger{e.config.Logger}, false, false, false)
	e.mu.Lock()
	e.server = s
	e.mu.Unlock()
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		return fmt.Errorf("the journal's engine in %s was not ready within %s", e.config.Directory, startTimeout)
	}
	if !s.JetStreamEnabled() {
		return fmt.Errorf("the journal's engine cannot use %s: see the log", e.config.Directory)
	}
	return nil
}

// reconnectWait is how long the connection waits for an engine that is restarted.
const reconnectWait = 20 * time.Millisecond

// connect connects to the engine without a port.
func (e *embedded) connect() (*nats.Conn, error) {
	conn, err := nats.Connect("", nats.InProcessServer(e), nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, reconnectWait))
	if err != nil {
		return nil, fmt.Errorf("connecting to the journal's engine: %w", err)
	}
	return conn, nil
}

// InProcessConn implements nats.InProcessConnProvider: also after a restart.
func (e *embedded) InProcessConn() (net.Conn, error) {
	s := e.running()
	if s == nil {
		return nil, errors.New("the journal's engine does not run")
	}
	return s.InProcessConn()
}

// running returns the engine, or nil.
func (e *embedded) running() *server.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server
}

// stores says whether the engine runs, and has not given its storage up.
func (e *embedded) stores() bool {
	s := e.running()
	return s != nil && s.Running() && s.JetStreamEnabled()
}

// errUnwritable says that the engine was left as it is, because it could not start again.
var errUnwritable = errors.New("the journal's directory cannot be written: mend its disk, or make room")

// writable finds out whether the directory takes a page more.
func (e *embedded) writable() error {
	file, err := os.CreateTemp(e.config.Directory, ".writable-*")
	if err != nil {
		return fmt.Errorf("%w: %w", errUnwritable, err)
	}
	_, err = file.Write(make([]byte, 4096))
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close(), os.Remove(file.Name())); err != nil {
		return fmt.Errorf("%w: %w", errUnwritable, err)
	}
	return nil
}

// restart opens the storage anew: after a write that failed (a full disk) a stream
// stores nothing any more until that is done, also when there is room again. It is
// the whole engine that starts anew: one whose storage alone does reads and writes
// the same memory at once while it is asked something. It returns when the connection
// of [embedded.connect] is to the new one: what is sent into the old one is lost.
//
// An engine that can still read is not stopped where it could not start again: it
// returns errUnwritable then.
func (e *embedded) restart(ctx context.Context, conn *nats.Conn) error {
	if e.stores() {
		if err := e.writable(); err != nil {
			return err
		}
	}
	before := conn.Stats().Reconnects
	e.stop()
	if err := e.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for conn.Stats().Reconnects == before || !conn.IsConnected() {
		select {
		case <-time.After(reconnectWait):
		case <-ctx.Done():
			return fmt.Errorf("connecting to the journal's engine: %w", context.Cause(ctx))
		}
	}
	return nil
}

// stop stops the engine, if it runs.
func (e *embedded) stop() {
	e.mu.Lock()
	s := e.server
	e.server = nil
	e.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

// close stops the engine and gives the directory free.
func (e *embedded) close() {
	e.stop()
	if e.lock != nil {
		if err := e.lock.Unlock(); err != nil {
			e.config.Logger.Warn("unlocking the journal's directory failed", "error", err)
		}
	}
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
