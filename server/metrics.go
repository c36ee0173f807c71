package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/edge"
	"understudy.internal/internal/tenant"
)

// metrics counts what operators want to know. docs/operations.md has every metric,
// and the alert that belongs to it; a test holds the two together.
type metrics struct {
	registry *prometheus.Registry

	calls        *prometheus.CounterVec
	finished     *prometheus.CounterVec
	takeovers    prometheus.Counter
	lost         prometheus.Counter
	pushFailures *prometheus.CounterVec
	appends      prometheus.Histogram
	appendErrors prometheus.Counter

	mu sync.Mutex
	// held are the syncs that this process took and did not finish.
	held map[string]bool
}

// newMetrics returns counters at zero.
func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry:     prometheus.NewRegistry(),
		held:         map[string]bool{},
		calls:        vector("understudy_calls_total", "Calls that ended, by method and status code.", "method", "code"),
		finished:     vector("understudy_syncs_finished_total", "Syncs that this process finished, by state.", "state"),
		takeovers:    counter("understudy_sync_takeovers_total", "Syncs that this process took over from another one."),
		lost:         counter("understudy_syncs_lost_total", "Syncs that another process took over from this one, which was still alive."),
		pushFailures: vector("understudy_push_failures_total", "Commits that this process made and could not push.", "tenant"),
		appends: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "understudy_journal_append_seconds", Help: "How long the journal took to store, durably.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		appendErrors: counter("understudy_journal_append_errors_total", "What the journal could not store."),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "understudy_build_info", Help: "1; the version is a label.", ConstLabels: prometheus.Labels{"version": version},
	})
	info.Set(1)
	m.registry.MustRegister(
		info, m.calls, m.finished, m.takeovers, m.lost, m.pushFailures, m.appends, m.appendErrors,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	for _, state := range finalStates {
		m.finished.WithLabelValues(stateLabel(state)) // a rate needs a zero to begin with
	}
	return m
}

// begin puts the zeros in that a rate begins with, where the first failure is what
// counts.
func (m *metrics) begin(tenants []tenant.Definition) {
	for i := range tenants {
		if tenants[i].Repository.Remote != "" {
			m.pushFailures.WithLabelValues(tenants[i].ID)
		}
	}
	service := &understudyv1.SyncService_ServiceDesc
	for _, method := range service.Methods {
		m.calls.WithLabelValues(service.ServiceName+"/"+method.MethodName, codes.Internal.String())
	}
	for _, stream := range service.Streams {
		m.calls.WithLabelValues(service.ServiceName+"/"+stream.StreamName, codes.Internal.String())
	}
}

// finalStates are the states in which syncs end.
var finalStates = []understudyv1.SyncState{
	understudyv1.SyncState_SYNC_STATE_SUCCEEDED, understudyv1.SyncState_SYNC_STATE_PARTIALLY_SUCCEEDED,
	understudyv1.SyncState_SYNC_STATE_FAILED, understudyv1.SyncState_SYNC_STATE_CANCELLED,
}

// stateLabel returns a state as the value of a label: `partially_succeeded`.
func stateLabel(state understudyv1.SyncState) string {
	return strings.ToLower(strings.TrimPrefix(state.String(), "SYNC_STATE_"))
}

// observe counts a call that ended.
func (m *metrics) observe(_ context.Context, call edge.Call) {
	m.calls.WithLabelValues(strings.TrimPrefix(call.Method, "/"), call.Code.String()).Inc()
}

// finish counts a sync that this process finished.
func (m *metrics) finish(tenant string, sync *understudyv1.Sync) {
	m.finished.WithLabelValues(stateLabel(sync.GetState())).Inc()
	if sync.GetSnapshot().GetPushState() == understudyv1.PushState_PUSH_STATE_FAILED {
		m.pushFailures.WithLabelValues(tenant).Inc()
	}
}

// metricsTimeout bounds what one client may take; a scrape takes milliseconds.
const metricsTimeout = 30 * time.Second

// serve serves /metrics on a listener, which it closes, until ctx is done.
func (m *metrics) serve(ctx context.Context, listener net.Listener, security *tls.Config, logger *slog.Logger) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
	}))
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: metricsTimeout, WriteTimeout: metricsTimeout, IdleTimeout: 2 * metricsTimeout,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	if security != nil {
		security = security.Clone()
		security.NextProtos = []string{"h2", "http/1.1"}
		listener = tls.NewListener(listener, security)
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics: %w", err)
	}
	return nil
}
