package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// exchange is what the token endpoint answered last, as far as it may be kept: the
// body's free text is not. MSAL drains bodies, so they are read here.
type exchange struct {
	mu          sync.Mutex
	status      int
	oauth       string
	suberror    string
	codes       []int
	correlation string
	trace       string
	retryAfter  time.Duration
	// transport says that there was no answer.
	transport bool
}

type exchangeKey struct{}

func withExchange(ctx context.Context) (context.Context, *exchange) {
	x := &exchange{}
	return context.WithValue(ctx, exchangeKey{}, x), x
}

// Limits of one request to Entra.
const (
	maxAnswer      = 1 << 20
	requestTimeout = 30 * time.Second
	maxAttempts    = 3
	maxRetryDelay  = 30 * time.Second
	slowDownStep   = 5 * time.Second // RFC 8628, section 3.5
)

// client is the HTTP client that MSAL gets: it keeps what is needed to classify a
// failure, repeats what is worth repeating, and holds the pace of a device code.
type client struct {
	http *http.Client

	mu       sync.Mutex
	interval time.Duration
	next     time.Time
}

// CloseIdleConnections implements MSAL's HTTPClient.
func (c *client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// Do implements MSAL's HTTPClient.
func (c *client) Do(request *http.Request) (*http.Response, error) {
	form := formOf(request)
	polling := strings.HasSuffix(form.Get("grant_type"), "device_code")
	ctx := request.Context()
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	if x == nil {
		x = &exchange{}
	}
	for attempt := 1; ; attempt++ {
		if polling {
			if err := c.pace(ctx); err != nil {
				return nil, err
			}
		}
		response, body, err := c.once(request, form)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		x.note(response, body, err)
		passing := err != nil || response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests
		switch {
		case polling && passing:
			// The person still signs in; the deadline ends this.
			if err := pause(ctx, max(x.delay(), time.Second)); err != nil {
				return nil, err
			}
			continue
		case polling && x.is("slow_down"):
			c.mu.Lock()
			c.interval += slowDownStep
			c.mu.Unlock()
		case passing && attempt < maxAttempts:
			if err := pause(ctx, max(x.delay(), time.Duration(attempt)*500*time.Millisecond)); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, errTransport
		}
		if strings.HasSuffix(request.URL.Path, "/devicecode") {
			c.begin(body)
		}
		return response, nil
	}
}

// errTransport stands for whatever the transport said: its text can hold addresses
// of proxies, and of requests.
var errTransport = errors.New("the sign-in service could not be reached")

func formOf(request *http.Request) url.Values {
	if request.Body == nil {
		return nil
	}
	content, err := io.ReadAll(io.LimitReader(request.Body, maxAnswer))
	if err != nil {
		return nil
	}
	request.Body = io.NopCloser(bytes.NewReader(content))
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	form, err := url.ParseQuery(string(content))
	if err != nil {
		return nil
	}
	return form
}

func (c *client) once(request *http.Request, _ url.Values) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(request.Context(), requestTimeout)
	defer cancel()
	again := request.Clone(ctx)
	if request.GetBody != nil {
		body, err := request.GetBody()
		if err != nil {
			return nil, nil, err
		}
		again.Body = body
	}
	response, err := c.http.Do(again)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	err = errors.Join(err, response.Body.Close())
	if err != nil {
		return nil, nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, body, nil
}

// begin takes the interval of a new device code.
func (c *client) begin(body []byte) {
	var answer struct {
		Interval int `json:"interval"`
	}
	_ = json.Unmarshal(body, &answer)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interval = time.Duration(max(answer.Interval, 1)) * time.Second
	c.next = time.Now().Add(c.interval)
}

// pace waits until the next poll is due: MSAL does not.
func (c *client) pace(ctx context.Context) error {
	c.mu.Lock()
	wait := time.Until(c.next)
	c.next = time.Now().Add(max(wait, 0) + max(c.interval, time.Second))
	c.mu.Unlock()
	return pause(ctx, wait)
}

func pause(ctx context.Context, delay time.Duration) error {
	if delay <= 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var identifier = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)

// note keeps what may be kept of an answer.
func (x *exchange) note(response *http.Response, body []byte, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.status, x.oauth, x.suberror, x.codes, x.correlation, x.trace, x.retryAfter = 0, "", "", nil, "", "", 0
	x.transport = err != nil
	if err != nil {
		return
	}
	x.status = response.StatusCode
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		x.retryAfter = time.Duration(seconds) * time.Second
	}
	var answer struct {
		Error         string `json:"error"`
		Suberror      string `json:"suberror"`
		ErrorCodes    []int  `json:"error_codes"`
		CorrelationID string `json:"correlation_id"`
		TraceID       string `json:"trace_id"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return
	}
	x.oauth, x.suberror, x.codes = word(answer.Error), word(answer.Suberror), answer.ErrorCodes
	if identifier.MatchString(answer.CorrelationID) {
		x.correlation = answer.CorrelationID
	}
	if identifier.MatchString(answer.TraceID) {
		x.trace = answer.TraceID
	}
}

var oauthWord = regexp.MustCompile(`^[a-z_]{1,64}$`)

// word lets only words of the OAuth form through.
func word(s string) string {
	if oauthWord.MatchString(s) {
		return s
	}
	return ""
}

func (x *exchange) is(oauth string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.oauth == oauth
}

func (x *exchange) delay() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	return min(x.retryAfter, maxRetryDelay)
}
