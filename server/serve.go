package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"understudy.internal/internal/journal"
)

// serveCommand is `understudy serve`.
type serveCommand struct {
	Config string `required:"" short:"c" placeholder:"FILE" help:"The configuration file (YAML)."`
}

// Help implements kong's HelpProvider.
func (*serveCommand) Help() string {
	return "Examples:\n\n  understudy serve --config /etc/understudy/understudy.yaml\n\n" +
		"docs/configuration.md describes the file, docs/deployment.md how to run the service."
}

// Run serves until ctx is done.
func (c *serveCommand) Run(ctx context.Context, std streams) error {
	cfg, err := loadConfig(c.Config)
	if err != nil {
		return &exitError{exitUsage, err.Error()}
	}
	collectEarly()
	logger := newLogger(cfg, std)
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	l := &lifetime{giveUp: func(err error) { giveUp(&gaveUpError{err}) }}
	return endWithin(ctx, cfg.GRPC.DrainDelay+cfg.GRPC.DrainTimeout+stopGrace, l.leave, func() error { return l.serve(ctx, cfg, logger) })
}

// lifetime is what a service has to do with the end of its process.
type lifetime struct {
	giveUp func(error)
	// journal is nil before it is open.
	journal atomic.Pointer[journal.Journal]
}

// gaveUpError says that the service ended for a reason of its own.
type gaveUpError struct{ err error }

func (e *gaveUpError) Error() string { return e.err.Error() }
func (e *gaveUpError) Unwrap() error { return e.err }

// leave tells the others that this process takes no more part.
func (l *lifetime) leave() {
	if j := l.journal.Load(); j != nil {
		j.Leave()
	}
}

// stopGrace is how long the service may take to stop after its calls have ended: for a
// commit that began, and to record what was read. A disk or a remote that does not
// answer would hold it for longer.
const stopGrace = time.Minute

// endWithin carries a task out, and leaves it behind when it is not over within a limit
// after ctx ended. What a process that ends so has not recorded is taken over as after
// a power cut, and at once: leave tells the others.
func endWithin(ctx context.Context, limit time.Duration, leave func(), task func() error) error {
	done := make(chan error, 1)
	go func() { done <- task() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		leave()
		if gaveUp := (*gaveUpError)(nil); errors.As(context.Cause(ctx), &gaveUp) {
			return gaveUp.err
		}
		return &exitError{exitFailed, fmt.Sprintf("the service did not stop within %s, and is ended as it is: "+
			"another replica, or the next start, takes over what it ran. See the log for a disk or a remote that does not answer", limit)}
	}
}

// garbagePercent is how much garbage there may be for what is in use, in place of
// Go's 100. What is in use is little, and most of what a sync makes is garbage at
// once: to collect it earlier costs a few hundredths of a processor, and saves a
// third of the memory. GOGC and GOMEMLIMIT in the environment count instead.
const garbagePercent = 50

func collectEarly() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(garbagePercent)
	}
}

// serve runs the service on the address of the configuration.
func (l *lifetime) serve(ctx context.Context, cfg *config, logger *slog.Logger) error {
	s, err := newService(ctx, cfg, logger)
	if err != nil {
		return err
	}
	defer s.close()
	s.giveUp = l.giveUp
	l.journal.Store(s.journal)
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", cfg.GRPC.Listen)
	if err != nil {
		return fmt.Errorf("listening on grpc.listen: %w", takenAddress(err, "write another address"))
	}
	return s.run(ctx, listener)
}

// takenAddress says what to do about an address that another process listens on.
func takenAddress(err error, instead string) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	return fmt.Errorf("%w. Another process listens there, perhaps another understudy (serve, playground, simulate, make run): stop it, or %s", err, instead)
}

// newLogger returns the logger of the configuration.
func newLogger(cfg *config, std streams) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Log.Level}
	if cfg.Log.Format == logJSON {
		return slog.New(slog.NewJSONHandler(std.err, options))
	}
	return slog.New(slog.NewTextHandler(std.err, options))
}

// serverTLS returns the TLS configuration of the listener, or nil for plain text.
// The certificate is read anew for every connection, so that a renewed one is
// taken up; one that cannot be read does not replace the last that could.
func serverTLS(c *tlsConfig) (*tls.Config, error) {
	if c == nil {
		return nil, nil
	}
	pair := &certificatePair{certificate: c.CertificateFile, key: c.KeyFile}
	if _, err := pair.get(nil); err != nil {
		return nil, fmt.Errorf("reading grpc.tls: %w", err)
	}
	security := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}
	if c.ClientCAFile != "" {
		pem, err := os.ReadFile(c.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("reading grpc.tls.client_ca_file: %w", err)
		}
		security.ClientCAs, security.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !security.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("grpc.tls.client_ca_file %s has no certificate in PEM form", c.ClientCAFile)
		}
	}
	return security, nil
}
