package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"google.golang.org/grpc/codes"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// Catalog is what the edge shows of the catalog. [catalog.Catalog] implements it.
type Catalog interface {
	// Types returns every configuration type.
	Types() []*catalog.Type
	// Get returns the type with an id.
	Get(id string) (*catalog.Type, bool)
}

// Config says what to serve, and how. Engine, Syncs, Watches and Catalog are
// required; the zero value of everything else means its default.
type Config struct {
	// Engine starts, retries and cancels syncs.
	Engine engine.Service
	// Syncs finds syncs and their events.
	Syncs port.Syncs
	// Watches follows and lists syncs.
	Watches port.Watches
	// Catalog is the configuration types.
	Catalog Catalog
	// Logger gets one record per call, and what went wrong. Nil: nothing is logged.
	Logger *slog.Logger
	// Observe is called at the end of every call with its final code, for metrics.
	// It must not block. Nil: it is not called.
	Observe func(ctx context.Context, call Call)
	// TLS secures the listener. Nil: plain text, for loopback addresses only,
	// which the wiring checks.
	TLS *tls.Config
	// HelpBaseURL is where the help pages are published, for example
	// `https://understudy.example/help`. Empty: statuses carry no links.
	HelpBaseURL string
	// PageTokenKey authenticates page tokens; it must be the same on all replicas.
	// Empty: tokens are protected against mistakes, not against forgery. A token
	// is a position within what its caller may see, so forging one gains nothing.
	PageTokenKey []byte
	// HeartbeatDefault is the heartbeat interval of streams that ask for none;
	// 15 seconds.
	HeartbeatDefault time.Duration
	// SendTimeout is how long one message may wait for a client that does not
	// read; 30 seconds.
	SendTimeout time.Duration
	// UnaryTimeout is how long a unary call may take, also where the client allows
	// more; 30 seconds.
	UnaryTimeout time.Duration
	// MaxWatchers is how many streams of RunSync and WatchSync may be open at the
	// same time; 4096.
	MaxWatchers int
	// MaxConcurrentStreams is how many calls a connection may have open; 1000.
	MaxConcurrentStreams uint32
	// DrainDelay is how long the server goes on after it said NOT_SERVING, so that
	// discovery can follow. Zero: not at all.
	DrainDelay time.Duration
	// DrainTimeout is how long calls may take to end after the watches were ended,
	// before their connections are closed; 10 seconds.
	DrainTimeout time.Duration
}

// Call is a call that ended.
type Call struct {
	// Method is the full name: `/understudy.v1.SyncService/GetSync`.
	Method string
	// Code is the code that the client got.
	Code codes.Code
	// Duration is how long the call took.
	Duration time.Duration
}

// complete returns the configuration with its defaults, or all that is wrong
// with it.
func (c Config) complete() (Config, error) {
	var problems []error
	for _, required := range []struct {
		name string
		is   bool
	}{
		{"Engine", c.Engine != nil},
		{"Syncs", c.Syncs != nil},
		{"Watches", c.Watches != nil},
		{"Catalog", c.Catalog != nil},
	} {
		if !required.is {
			problems = append(problems, errors.New(required.name+" is required"))
		}
	}
	for _, duration := range []struct {
		name    string
		value   *time.Duration
		initial time.Duration
	}{
		{"HeartbeatDefault", &c.HeartbeatDefault, 15 * time.Second},
		{"SendTimeout", &c.SendTimeout, 30 * time.Second},
		{"UnaryTimeout", &c.UnaryTimeout, 30 * time.Second},
		{"DrainDelay", &c.DrainDelay, 0},
		{"DrainTimeout", &c.DrainTimeout, 10 * time.Second},
	} {
		if *duration.value < 0 {
			problems = append(problems, errors.New(duration.name+" must not be negative"))
		}
		if *duration.value == 0 {
			*duration.value = duration.initial
		}
	}
	if c.MaxWatchers < 0 {
		problems = append(problems, errors.New("MaxWatchers must not be negative"))
	}
	if c.MaxWatchers == 0 {
		c.MaxWatchers = 4096
	}
	if c.MaxConcurrentStreams == 0 {
		c.MaxConcurrentStreams = 1000
	}
	if c.HelpBaseURL != "" {
		address, err := url.Parse(c.HelpBaseURL)
		if err != nil || address.Host == "" || (address.Scheme != "https" && address.Scheme != "http") {
			problems = append(problems, errors.New("HelpBaseURL must be an http or https address"))
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, errors.Join(problems...)
}
