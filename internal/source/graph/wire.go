package graph

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// Headers of every request. Without the preference, Graph replaces enumeration
// members that are newer than the API version by `unknownFutureValue`.
// https://learn.microsoft.com/graph/best-practices-concept
const (
	preferUnknownMembers = "include-unknown-enum-members"
	lowPriority          = "low"
)

// send makes one attempt of a call.
func (s *session) send(ctx context.Context, c *call) (*answer, error) {
	if !c.alone {
		return s.submit(ctx, c)
	}
	if err := s.occupy(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	a, err := s.get(ctx, c)
	s.observe(a, err, c)
	return a, err
}

// occupy waits for a connection slot; they are shared by all syncs of the tenant.
func (s *session) occupy(ctx context.Context) error {
	select {
	case s.source.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *session) release() { <-s.source.slots }

// get sends a call on its own.
func (s *session) get(ctx context.Context, c *call) (*answer, error) {
	return s.exchange(ctx, exchange{
		method: http.MethodGet, address: c.address, token: c.token, header: c.header, operation: c.operation, parts: 1,
	})
}

// exchange is one request on the wire.
type exchange struct {
	method    string
	address   string
	token     string
	header    map[string]string
	body      []byte
	operation string
	parts     int
}

// exchange sends a request and reads its answer whole. A body that ends early is
// errUnusable; other errors are the network's. The caller holds a slot.
func (s *session) exchange(ctx context.Context, e exchange) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.source.config.RequestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, e.method, e.address, bytes.NewReader(e.body))
	if err != nil {
		return nil, &finalError{invalid(e.operation, "the address made for the request is not valid")}
	}
	setHeaders(request.Header, e.header)
	request.Header.Set("Authorization", "Bearer "+e.token)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Client-Request-Id", uuid.NewString())
	request.Header.Set("User-Agent", "understudy/1")
	if e.method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	s.requests.Add(1)
	start := time.Now()
	a, err := s.roundTrip(request, e.operation)
	s.log(ctx, e, a, err, time.Since(start))
	return a, err
}

func (s *session) roundTrip(request *http.Request, operation string) (*answer, error) {
	response, err := s.source.client.Do(request)
	if err != nil {
		return nil, errNoAnswer
	}
	defer response.Body.Close()
	limit := s.source.config.MaxResponseBytes
	if response.ContentLength > limit {
		return nil, &finalError{invalid(operation, "the answer is larger than the limit")}
	}
	var body bytes.Buffer
	if response.ContentLength > 0 {
		body.Grow(int(response.ContentLength) + bytes.MinRead)
	}
	n, err := body.ReadFrom(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil && request.Context().Err() != nil:
		return nil, errNoAnswer
	case err != nil:
		return nil, errUnusable
	case n > limit:
		return nil, &finalError{invalid(operation, "the answer is larger than the limit")}
	}
	return &answer{status: response.StatusCode, header: response.Header, body: body.Bytes()}, nil
}

// errNoAnswer stands for every error of the network, whose texts can hold
// addresses and what a server sent.
var errNoAnswer = errors.New("no answer")

// setHeaders sets the headers of every request and those of a catalog entry.
// Preferences add up.
func setHeaders(header http.Header, own map[string]string) {
	for name, value := range own {
		header.Set(name, value)
	}
	prefer := preferUnknownMembers
	if given := header.Get("Prefer"); given != "" && !strings.Contains(given, preferUnknownMembers) {
		prefer += ", " + given
	}
	header.Set("Prefer", prefer)
	header.Set("X-Ms-Throttle-Priority", lowPriority)
}

func (s *session) log(ctx context.Context, e exchange, a *answer, err error, duration time.Duration) {
	if !s.source.logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attributes := []slog.Attr{
		slog.String("operation", e.operation),
		slog.Int("parts", e.parts),
		slog.Duration("duration", duration),
	}
	switch {
	case a != nil:
		attributes = append(attributes, slog.Int("status", a.status), slog.String("request_id", requestID(a.header)))
	case errors.Is(err, errUnusable):
		attributes = append(attributes, slog.String("problem", "answer cut"))
	default:
		attributes = append(attributes, slog.String("problem", "no usable answer"))
	}
	s.source.logger.LogAttrs(ctx, slog.LevelDebug, "graph request", attributes...)
}

// requestID returns the provider's id of a request, unless it is no id.
func requestID(header http.Header) string {
	id := header.Get("request-id")
	if len(id) > 64 {
		return ""
	}
	for _, r := range id {
		if r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return ""
		}
	}
	return id
}

func invalid(operation, detail string) *port.ReadError {
	return &port.ReadError{
		Reason:    understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID,
		Operation: operation,
		Detail:    detail,
	}
}
