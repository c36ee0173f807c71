package journal

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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
	server *server.Server
}

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
	e.server = s
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		return fmt.Errorf("the journal's engine in %s was not ready within %s", e.config.Directory, startTimeout)
	}
	if !s.JetStreamEnabled() {
		return fmt.Errorf("the journal's engine cannot use %s: see the log", e.config.Directory)
	}
	return nil
}

// connect connects to the engine without a port.
func (e *embedded) connect() (*nats.Conn, error) {
	conn, err := nats.Connect("", nats.InProcessServer(e.server), nats.MaxReconnects(-1))
	if err != nil {
		return nil, fmt.Errorf("connecting to the journal's engine: %w", err)
	}
	return conn, nil
}

// restart opens the storage anew: after a write that failed (a full disk) a stream
// stores nothing any more until that is done, also when there is room again.
func (e *embedded) restart() error {
	if err := e.server.DisableJetStream(); err != nil {
		return err
	}
	return e.server.EnableJetStream(&server.JetStreamConfig{
		StoreDir: e.config.Directory, SyncAlways: true, MaxMemory: maxMemory, MaxStore: e.config.MaxBytes,
	})
}

// close stops the engine and gives the directory free.
func (e *embedded) close() {
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
	}
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
