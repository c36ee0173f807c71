package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Limits of requests to the sign-in service.
const (
	maxAnswer = 1 << 20
	// requestTimeout is when a request that hangs is given up for another. One with
	// a password is not: it may have been read.
	requestTimeout = 30 * time.Second
	maxAttempts    = 3
	retryStep      = 500 * time.Millisecond
	// maxRetryDelay is how long an attempt waits because it is told to.
	maxRetryDelay = 30 * time.Second
)

var (
	// errUnreachable stands for whatever the transport said: its text can hold
	// addresses of proxies, and of requests.
	errUnreachable = errors.New("the sign-in service could not be reached")
	// errNoAnswer says that a request that may not be repeated had no answer.
	errNoAnswer = errors.New("the sign-in service did not answer")
	// errForeignHost says that MSAL was sent to a host that is not the cloud's.
	errForeignHost = errors.New("the sign-in service names another host")
	// errFederated says that the password would go to another identity provider.
	errFederated = errors.New("the account is signed in by another identity provider")
)

// client is the HTTP client that MSAL gets. It keeps what is needed to classify a
// failure, repeats what is worth repeating, holds the pace of a device code, and
// speaks to the hosts of the cloud only. It may be used at the same time.
type client struct {
	http  *http.Client
	hosts []string
}

// CloseIdleConnections implements MSAL's HTTPClient.
func (c *client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// Do implements MSAL's HTTPClient.
func (c *client) Do(request *http.Request) (*http.Response, error) {
	x := exchangeOf(request.Context())
	x.begun()
	if err := c.guard(request); err != nil {
		return nil, err
	}
	form, err := formOf(request)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.HasSuffix(form.Get("grant_type"), "device_code"):
		return c.poll(request, x)
	case form.Has("password"):
		return c.onlyOnce(request, x)
	}
	response, err := c.repeated(request, x)
	if err == nil && response.StatusCode == http.StatusOK && strings.HasSuffix(request.URL.Path, "/devicecode") {
		x.beginPolling(response.body)
	}
	return response.toMSAL(err)
}

// guard refuses hosts that are not the cloud's, and what is not https.
func (c *client) guard(request *http.Request) error {
	if request.URL.Scheme == "https" && slices.Contains(c.hosts, hostOf(request.URL)) {
		return nil
	}
	if request.Method == http.MethodGet {
		return errFederated // the metadata of another identity provider
	}
	return errForeignHost
}

// hostOf returns the host of an address, with its port unless that is the usual.
func hostOf(u *url.URL) string { return strings.TrimSuffix(strings.ToLower(u.Host), ":443") }

// formOf returns the form of a request, and makes its body repeatable.
func formOf(request *http.Request) (url.Values, error) {
	if request.Body == nil {
		return nil, nil
	}
	content, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	return url.ParseQuery(string(content))
}

// received is an answer that was read.
type received struct {
	*http.Response
	body []byte
}

func (r received) toMSAL(err error) (*http.Response, error) {
	if err != nil {
		return nil, err
	}
	return r.Response, nil
}

// onlyOnce sends a request with a password. It is never sent a second time,
// whatever is answered: a wrong password locks the account.
func (c *client) onlyOnce(request *http.Request, x *exchange) (*http.Response, error) {
	response, err := c.once(request.Context(), request, x)
	if errors.Is(err, errHung) {
		err = errNoAnswer
	}
	return response.toMSAL(err)
}

// repeated sends a request until it has an answer that does not pass by itself: 3
// times at most, but as long as the deadline allows when the service hangs.
func (c *client) repeated(request *http.Request, x *exchange) (received, error) {
	ctx := request.Context()
	for attempt := 1; ; {
		response, err := c.limited(request, x)
		hung := errors.Is(err, errHung)
		if gone := hung || errors.Is(err, errUnreachable); !gone && (err != nil || !passing(x.latest())) {
			return response, err
		}
		delay := max(x.latest().retryAfter, time.Duration(attempt)*retryStep)
		if !hung {
			attempt++
		}
		if attempt > maxAttempts || delay > maxRetryDelay || !hung && pastDeadline(ctx, delay) {
			return response, err
		}
		if err := pause(ctx, delay); err != nil {
			return received{}, err
		}
	}
}

// poll asks whether the person has signed in. What passes by itself does not end
// the waiting: the deadline does.
func (c *client) poll(request *http.Request, x *exchange) (*http.Response, error) {
	for {
		if err := x.pace(request.Context()); err != nil {
			return nil, err
		}
		response, err := c.limited(request, x)
		x.polled(x.latest())
		if gone := errors.Is(err, errUnreachable) || errors.Is(err, errHung); !gone && (err != nil || !passing(x.latest())) {
			return response.toMSAL(err)
		}
	}
}

// passing says whether an answer may be another one soon.
func passing(a answer) bool {
	return a.status >= 500 || a.status == http.StatusTooManyRequests || a.status == http.StatusRequestTimeout ||
		a.oauth == "temporarily_unavailable"
}

func pastDeadline(ctx context.Context, delay time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < delay
}

// errHung says that a request was sent and not answered in time.
var errHung = errors.New("no answer in time")

// limited sends a request that may be repeated.
func (c *client) limited(request *http.Request, x *exchange) (received, error) {
	ctx, cancel := context.WithTimeout(request.Context(), requestTimeout)
	defer cancel()
	return c.once(ctx, request, x)
}

// once sends a request and reads the answer. Its errors are errUnreachable, errHung
// and the cause of the request's own context.
func (c *client) once(ctx context.Context, request *http.Request, x *exchange) (received, error) {
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	response, err := c.send(ctx, request)
	switch {
	case err == nil:
		x.answered(parseAnswer(response.StatusCode, response.Header, response.body, time.Now()))
		return response, nil
	case request.Context().Err() != nil:
		return received{}, context.Cause(request.Context())
	case timedOut(err) && (connected.Load() || ctx.Err() != nil):
		x.unanswered("no answer in time")
		return received{}, errHung
	}
	x.unanswered(causeOf(err))
	return received{}, errUnreachable
}

func (c *client) send(ctx context.Context, request *http.Request) (received, error) {
	again := request.Clone(ctx)
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			return received{}, err
		}
		again.Body = body
	}
	response, err := c.http.Do(again)
	if err != nil {
		return received{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return received{}, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return received{response, body}, nil
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// causeOf says in our own words why there was no answer.
func causeOf(err error) string {
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	var operation *net.OpError
	switch {
	case errors.As(err, &certificate):
		return "the certificate of the sign-in service is not trusted"
	case errors.As(err, &name):
		return "the name of the sign-in service is not known"
	case errors.As(err, &operation) && operation.Op == "dial":
		return "no connection"
	}
	return "the connection was lost"
}
