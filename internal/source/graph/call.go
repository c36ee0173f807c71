package graph

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/port"
)

// call is one GET of one reading, with all its attempts.
type call struct {
	credential *credential
	workload   *workload
	health     *health
	version    string
	// relative is the address below the version, as a batch wants it; empty for a
	// next page, which is never part of a batch.
	relative string
	// address is the whole address.
	address string
	// operation is the request as errors and logs show it.
	operation string
	// header are the headers of the catalog entry.
	header map[string]string

	// The rest is the state of the attempts; they follow one another.

	token      string
	alone      bool // not as a part of a batch
	renewed    bool
	challenged bool
	failed     bool          // with a server error, or without an answer
	waited     time.Duration // by Retry-After
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// answer is what the source answered to one call.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ok says whether the answer has what was asked for. Other statuses of success say
// that it has not: nothing (204), not yet (202), a part (206).
func (a *answer) ok() bool { return a.status == http.StatusOK }

// finalError is an error that no further attempt can mend.
type finalError struct{ error }

// Unwrap returns the cause.
func (e *finalError) Unwrap() error { return e.error }

// NonRetriable tells azcore's retry policy to stop.
func (e *finalError) NonRetriable() {}

// errUnusable says that an answer was cut, or that a batch answered a part in no
// usable way.
var errUnusable = errors.New("the answer was cut or not usable")

// do sends a call until it is answered. The answer has any status; the error is an
// [port.AuthError], a [*port.ReadError], or the cause of the context.
func (s *session) do(ctx context.Context, c *call) (*answer, error) {
	c.alone = c.alone || c.relative == ""
	request, err := runtime.NewRequest(context.WithValue(ctx, callKey{}, c), http.MethodGet, c.address)
	if err != nil {
		return nil, c.fail(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID,
			"the address made for the request is not valid")
	}
	runtime.SkipBodyDownload(request)
	response, err := s.pipeline.Do(request)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	defer response.Body.Close()
	a := &answer{status: response.StatusCode, header: response.Header}
	if p, ok := response.Body.(*payload); ok {
		a.body = p.raw
	} else if a.body, err = runtime.Payload(response); err != nil {
		return nil, c.explain(ctx, err)
	}
	return a, nil
}

// explain turns what the pipeline returned into what a caller reacts to. Texts of
// the network and of the provider end here.
func (c *call) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if final := (*finalError)(nil); errors.As(err, &final) {
		return final.error
	}
	if errors.Is(err, errUnusable) {
		return c.fail(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_RESPONSE_INVALID,
			"the answer was cut or not usable, at every attempt")
	}
	return c.fail(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE,
		"Microsoft Graph could not be reached, or did not answer in time")
}

func (c *call) fail(reason understudyv1.ConfigurationFailureReason, detail string) *port.ReadError {
	return &port.ReadError{Reason: reason, Operation: c.operation, Detail: detail}
}

// transport is the end of the pipeline: one attempt.
type transport struct{ session *session }

// Do implements policy.Transporter. It waits for the gate and sends the call, as a
// part of a batch where it can be one.
func (t transport) Do(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	c := callOf(ctx)
	for {
		if err := c.gaveUp(); err != nil {
			return nil, &finalError{err}
		}
		err := c.workload.gate.wait(ctx, c.operation)
		if errors.Is(err, errClosedForLong) {
			return nil, &finalError{c.askedTooLong()}
		}
		if err != nil {
			return nil, err
		}
		a, err := t.session.send(ctx, c)
		if errors.Is(err, errGateClosed) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return respond(c, a)
	}
}

// respond gives an answer the form that the pipeline knows, unless the tenant has
// asked to wait for too long.
func respond(c *call, a *answer) (*http.Response, error) {
	if isRetried(a.status) {
		if wait, ok := retryAfter(a.header, time.Now()); ok {
			c.waited += wait
		}
		if c.waited > maxThrottleWait {
			err := c.askedTooLong()
			err.HTTPStatus, err.RequestID = a.status, requestID(a.header)
			return nil, &finalError{err}
		}
	}
	return &http.Response{
		StatusCode: a.status,
		Status:     http.StatusText(a.status),
		Header:     a.header,
		Body:       &payload{Reader: *bytes.NewReader(a.body), raw: a.body},
	}, nil
}

// askedTooLong is the error of a call that would have to wait for too long.
func (c *call) askedTooLong() *port.ReadError {
	return c.fail(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_THROTTLED,
		"the tenant asked to wait for more than "+maxThrottleWait.String())
}

// gaveUp returns an error when the type or the workload of a call was given up.
func (c *call) gaveUp() error {
	var what string
	switch {
	case c.workload.givenUp.Load():
		what = "the workload"
	case c.health.givenUp.Load():
		what = "the source of this type"
	default:
		return nil
	}
	return &gaveUpError{c.fail(understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_SOURCE_UNAVAILABLE,
		what+" answered with server errors only, and was given up for this sync")}
}

// gaveUpError is the error of what was given up; it ends a reading at once.
type gaveUpError struct{ *port.ReadError }

// Unwrap returns the error for the caller of Read.
func (e *gaveUpError) Unwrap() error { return e.ReadError }

// payload is a body that is in memory already.
type payload struct {
	bytes.Reader
	raw []byte
}

// Close implements io.Closer.
func (*payload) Close() error { return nil }

func retriedStatuses() []int {
	return []int{
		http.StatusRequestTimeout,
		http.StatusTooManyRequests,
		http.StatusInternalServerError,
		http.StatusBadGateway,
		http.StatusServiceUnavailable,
		http.StatusGatewayTimeout,
		statusBandwidthExceeded,
	}
}

func isRetried(status int) bool {
	for _, retried := range retriedStatuses() {
		if status == retried {
			return true
		}
	}
	return false
}

var (
	_ policy.Transporter = transport{}
	_ io.ReadCloser      = (*payload)(nil)
)
