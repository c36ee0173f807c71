package graph

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
)

// Config says which tenant to read and how. Zero values mean the defaults.
type Config struct {
	// Endpoint is the address of Microsoft Graph, https and without version:
	// `https://graph.microsoft.com`. Required.
	Endpoint string
	// DirectoryID replaces `{tenantId}` in paths. Required.
	DirectoryID string
	// HTTPClient sends the requests. Its transport should keep MaxConnections idle
	// connections to one host. Redirects are never followed and cookies never
	// kept, whatever it says. Default: a client of its own.
	HTTPClient *http.Client
	// Logger gets one debug record per request, without query, body or token, and a
	// warning when a path is closed for long.
	Logger *slog.Logger
	// NotAvailable lists answers to a type's first request that mean, for every
	// type, that the tenant does not have it: the catalog's list.
	NotAvailable []catalog.Answer
	// UnknownPath lists answers that mean that the tenant's cloud does not have a path:
	// what [catalog.UnknownPathIn] says of it. An item is complete without a regional
	// child that has none.
	UnknownPath []catalog.Answer
	// MaxConnections is how many requests are on the wire at a time. Default: 16.
	MaxConnections int
	// Limits replaces the limits of gates, by [catalog.Type.GateName].
	Limits map[string]Limit
	// RetryDelay is the wait before the second attempt; the third waits 3 times,
	// the fourth 7 times as long, with jitter. Default: 800 ms, which makes at most
	// 12 s of own waiting. At most 2 s, which makes 30 s. Not negative: azcore takes it
	// for the longest delay.
	RetryDelay time.Duration
	// RequestTimeout is how long one answer may take, its body included.
	// Default: 100 s.
	RequestTimeout time.Duration
	// Linger is how long a batch that is not full waits for one more part.
	// Default: 1 ms.
	Linger time.Duration
	// MaxResponseBytes limits one answer. Default: 64 MiB.
	MaxResponseBytes int64
	// MaxTypeBytes limits all answers for one type in one sync. Default: 8 GiB.
	MaxTypeBytes int64
	// MaxPages limits the pages of one list. Default: 10,000.
	MaxPages int

	// firstPause replaces the pause of a gate that is told to wait, but not for how
	// long. Tests of this package set it.
	firstPause time.Duration
}

// Numbers that are part of the promise: see the package tests.
const (
	// batchSize is the most parts of a batch.
	// https://learn.microsoft.com/graph/json-batching
	batchSize = 20
	// maxAttempts is how often a request is sent at most.
	maxAttempts = 4
	// maxRetryDelay keeps the promise of 30 s of own waiting over 3 retries.
	maxRetryDelay = 2 * time.Second
	// maxThrottleWait is how long one request obeys Retry-After, all together.
	maxThrottleWait = 10 * time.Minute
)

// Source reads one tenant. It implements [port.Source] and may be used at the
// same time by many goroutines.
type Source struct {
	config   Config
	endpoint *url.URL
	client   *http.Client
	logger   *slog.Logger
	slots    chan struct{}

	mu    sync.Mutex
	gates map[string]*gate
}

var _ port.Source = (*Source)(nil)

// New returns a source. It fails when the configuration cannot be used; it makes
// no request.
func New(config Config) (*Source, error) {
	endpoint, err := parseEndpoint(config.Endpoint)
	if err != nil {
		return nil, err
	}
	if config.DirectoryID == "" {
		return nil, errors.New("the directory id is empty: set it to the tenant's id in Entra")
	}
	if config.RetryDelay < 0 || config.RetryDelay > maxRetryDelay {
		return nil, fmt.Errorf("a retry delay of %s is not usable: set 0 to %s", config.RetryDelay, maxRetryDelay)
	}
	for name, limit := range config.Limits {
		if limit.Requests < 1 || limit.Per <= 0 {
			return nil, fmt.Errorf("limit %q: set a positive number of requests and a positive time", name)
		}
	}
	setDefault(&config.MaxConnections, 16)
	setDefault(&config.RetryDelay, 800*time.Millisecond)
	setDefault(&config.RequestTimeout, 100*time.Second)
	setDefault(&config.Linger, time.Millisecond)
	setDefault(&config.MaxResponseBytes, 64<<20)
	setDefault(&config.MaxTypeBytes, 8<<30)
	setDefault(&config.MaxPages, 10_000)
	setDefault(&config.firstPause, time.Second)
	setDefault(&config.Logger, slog.New(slog.DiscardHandler))
	return &Source{
		config:   config,
		endpoint: endpoint,
		client:   ownClient(config.HTTPClient, config.MaxConnections),
		logger:   config.Logger,
		slots:    make(chan struct{}, config.MaxConnections),
		gates:    make(map[string]*gate),
	}, nil
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

// parseEndpoint accepts an https address without query. Tokens go there, so
// that anything else is refused.
func parseEndpoint(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the endpoint of Microsoft Graph is not an https address: write it like https://graph.microsoft.com")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// ownClient returns a copy of a client that follows no redirects (a token must
// not travel) and keeps no cookies. The time limit of an answer is this
// package's, because it may not include the waiting at a gate.
func ownClient(given *http.Client, connections int) *http.Client {
	client := &http.Client{}
	if given != nil {
		*client = *given
	} else {
		client.Transport = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   connections,
			IdleConnTimeout:       90 * time.Second,
			TLSHandshakeTimeout:   10 * time.Second,
			ExpectContinueTimeout: time.Second,
		}
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Jar, client.Timeout = nil, 0
	return client
}

// Open implements [port.Source].
func (s *Source) Open() port.Session {
	ctx, cancel := context.WithCancel(context.Background())
	session := &session{
		source:      s,
		ctx:         ctx,
		cancel:      cancel,
		queues:      make(map[queueKey]*queue),
		credentials: make(map[port.Identity]*credential),
		workloads:   make(map[string]*workload),
		rooms:       make(map[roomKey]*room),
		healths:     make(map[string]*health),
	}
	session.pipeline = runtime.NewPipeline("understudy", "v1", runtime.PipelineOptions{
		PerRetry: []policy.Policy{tokenPolicy{}},
	}, &policy.ClientOptions{
		Transport: transport{session},
		Telemetry: policy.TelemetryOptions{Disabled: true},
		Retry: policy.RetryOptions{
			MaxRetries:    maxAttempts - 1,
			RetryDelay:    s.config.RetryDelay,
			MaxRetryDelay: maxThrottleWait,
			StatusCodes:   retriedStatuses(),
		},
	})
	return session
}

// gate returns the gate of a name; there is one for all syncs of the tenant.
func (s *Source) gate(name string) *gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gates[name]
	if g == nil {
		limit, ok := s.config.Limits[name]
		if !ok {
			limit = defaultLimit(name)
		}
		g = newGate(limit, s.config.firstPause)
		s.gates[name] = g
	}
	return g
}

// throttleDelay returns how long the most patient gate is closed from now on. A path
// that is closed for long holds up nobody: its requests fail.
func (s *Source) throttleDelay(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var longest time.Duration
	for _, g := range s.gates {
		longest = max(longest, g.closedFor(now, ""))
	}
	return longest
}
