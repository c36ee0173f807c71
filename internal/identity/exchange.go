package identity

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// answer is what is kept of an answer of the sign-in service: codes and ids, and
// nothing that it wrote in words.
type answer struct {
	status      int
	oauth       string
	suberror    string
	codes       []int
	correlation string
	trace       string
	retryAfter  time.Duration
}

// withoutWaiting leaves out that the service waited for a person, which is no error:
// the answer of every poll until then.
func (a answer) withoutWaiting() answer {
	if a.oauth == "authorization_pending" || a.oauth == "slow_down" {
		a.oauth, a.suberror, a.codes = "", "", nil
	}
	return a
}

// Limits of what is kept.
const (
	maxCodes      = 8
	maxCode       = 99_999_999
	maxRetryAfter = 24 * time.Hour
)

var (
	uuid       = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	oauthWord  = regexp.MustCompile(`^[a-z_]{1,40}$`)
	codeInText = regexp.MustCompile(`^AADSTS([0-9]{4,8})\b`)
)

// parseAnswer reads an error of the token endpoint (RFC 6749, section 5.2, and
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes).
// A member of another form than it should have is left out; the others stay.
func parseAnswer(status int, header http.Header, body []byte, now time.Time) answer {
	a := answer{status: status, retryAfter: retryAfter(header.Get("Retry-After"), now)}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return a
	}
	text := func(name string, form *regexp.Regexp) string {
		var value string
		if json.Unmarshal(members[name], &value) != nil || !form.MatchString(value) {
			return ""
		}
		return value
	}
	a.oauth, a.suberror = text("error", oauthWord), text("suberror", oauthWord)
	a.correlation, a.trace = text("correlation_id", uuid), text("trace_id", uuid)
	a.codes = codesOf(members["error_codes"])
	var description string
	if len(a.codes) == 0 && json.Unmarshal(members["error_description"], &description) == nil {
		if found := codeInText.FindStringSubmatch(description); found != nil {
			a.codes = codesOf([]byte(found[1]))
		}
	}
	return a
}

// codesOf reads a list of codes, or one code. What is no code is left out.
func codesOf(value json.RawMessage) []int {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) != nil {
		list = []json.RawMessage{value}
	}
	var codes []int
	for _, element := range list {
		var number json.Number // from text, too
		if json.Unmarshal(element, &number) != nil {
			continue
		}
		if code, err := strconv.Atoi(number.String()); err == nil && code > 0 && code <= maxCode && len(codes) < maxCodes {
			codes = append(codes, code)
		}
	}
	return codes
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// exchange is what one attempt to sign in saw. MSAL drains the bodies that it gets,
// so they are read before.
type exchange struct {
	mu sync.Mutex
	// tried says that MSAL wanted a request made, asked that one was made and came to
	// an end: an answer, or none.
	tried, asked bool
	// cause says why the last request had no answer, or is empty.
	cause string
	last  answer
	// interval and next are the pace of a device code.
	interval time.Duration
	next     time.Time
}

type exchangeKey struct{}

func withExchange(ctx context.Context) (context.Context, *exchange) {
	x := &exchange{}
	return context.WithValue(ctx, exchangeKey{}, x), x
}

func exchangeOf(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

// answered keeps an answer.
func (x *exchange) answered(a answer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked, x.cause, x.last = true, "", a
}

// unanswered keeps why there was no answer.
func (x *exchange) unanswered(cause string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked, x.cause, x.last = true, cause, answer{}
}

// begun notes that MSAL wants a request made.
func (x *exchange) begun() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tried = true
}

func (x *exchange) wasTried() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.tried
}

func (x *exchange) wasAsked() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asked
}

func (x *exchange) why() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cause
}

func (x *exchange) latest() answer {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.last
}

// The pace of a device code (RFC 8628, section 3.5).
const (
	standardInterval = 5 * time.Second
	slowDownStep     = 5 * time.Second
	maxInterval      = 5 * time.Minute
)

// beginPolling takes the interval of a new device code.
func (x *exchange) beginPolling(body []byte) {
	var answer struct {
		Interval int64 `json:"interval"`
	}
	_ = json.Unmarshal(body, &answer) // without one the standard is 5 s
	interval := standardInterval
	if answer.Interval > 0 {
		interval = time.Duration(min(answer.Interval, int64(maxInterval/time.Second))) * time.Second
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.interval, x.next = interval, time.Now().Add(interval)
}

// polled says when the next poll is due.
func (x *exchange) polled(a answer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if a.oauth == "slow_down" {
		x.interval = min(x.interval+slowDownStep, maxInterval)
	}
	x.next = time.Now().Add(max(x.interval, a.retryAfter))
}

// pace waits until the next poll is due: MSAL does not.
func (x *exchange) pace(ctx context.Context) error {
	x.mu.Lock()
	wait := time.Until(x.next)
	x.mu.Unlock()
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
