package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// syncView shows a sync to somebody.
type syncView interface {
	// event shows one event.
	event(*understudyv1.SyncEvent) error
	// note tells what happens to the connection.
	note(text string)
	// clear removes what is not to stay when the stream is over.
	clear()
	// end shows how the sync ended.
	end(*understudyv1.Sync) error
	// cancelled shows a sync whose cancellation was requested.
	cancelled(*understudyv1.Sync) error
}

// newView returns the view that the flags ask for.
func (c *syncCommand) newView(std streams) syncView {
	if c.JSON {
		return &jsonView{out: std.out, err: std.err}
	}
	v := &textView{
		out: std.out, err: std.err, verbose: c.Verbose, command: c.command,
		location: time.Local, began: time.Now(),
	}
	if file, ok := std.err.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		v.width = func() int {
			width, _, err := term.GetSize(int(file.Fd()))
			if err != nil {
				return 80
			}
			return width
		}
	}
	return v
}

// jsonView writes every event as one line.
type jsonView struct{ out, err io.Writer }

func (v *jsonView) event(event *understudyv1.SyncEvent) error {
	line, err := protojson.Marshal(event)
	if err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	_, err = v.out.Write(append(line, '\n'))
	return err
}

func (v *jsonView) note(text string)             { say(v.err, text) }
func (v *jsonView) clear()                       {}
func (v *jsonView) end(*understudyv1.Sync) error { return nil }

func (v *jsonView) cancelled(sync *understudyv1.Sync) error {
	line, err := protojson.Marshal(sync)
	if err != nil {
		return fmt.Errorf("writing a sync: %w", err)
	}
	_, err = v.out.Write(append(line, '\n'))
	return err
}

// say writes a line about the way, which nobody depends on.
func say(w io.Writer, text string) { _, _ = io.WriteString(w, text+"\n") }

// How often progress is shown: on a terminal it is drawn over the last one.
const (
	drawInterval = 100 * time.Millisecond
	lineInterval = 10 * time.Second
)

// textView shows a sync to a person: what happens on err, the results on out.
type textView struct {
	out, err io.Writer
	// width is that of the terminal; nil where err is none.
	width    func() int
	verbose  bool
	command  func(flag, name string) string
	location *time.Location
	began    time.Time

	// introduced says that the name of the sync was shown.
	introduced bool
	total      int
	progress   *understudyv1.Progress
	results    []*understudyv1.ConfigurationResult
	// prompted is the prompt that was shown; it is sent again after a break.
	prompted string
	// drawn says that a progress line stands on the terminal.
	drawn     bool
	lastDrawn time.Time
}

func (v *textView) event(event *understudyv1.SyncEvent) error {
	switch e := event.GetEvent().(type) {
	case *understudyv1.SyncEvent_CurrentState:
		v.introduce(e.CurrentState.GetSync())
	case *understudyv1.SyncEvent_Started:
		v.total = len(e.Started.GetConfigurationTypes())
		v.say(fmt.Sprintf("Started: %s, catalog %s.", counted(v.total, "configuration type"),
			printable(e.Started.GetCatalogVersion())))
	case *understudyv1.SyncEvent_AuthenticationPrompt:
		v.showPrompt(e.AuthenticationPrompt)
	case *understudyv1.SyncEvent_AuthenticationSucceeded:
		v.say(fmt.Sprintf("Authenticated: %s (%s).", identityName(e.AuthenticationSucceeded.GetIdentity()),
			words(e.AuthenticationSucceeded.GetMethod().String(), "AUTHENTICATION_METHOD_")))
	case *understudyv1.SyncEvent_AuthenticationFailed:
		v.showFailure(e.AuthenticationFailed)
	case *understudyv1.SyncEvent_StateChanged:
		if e.StateChanged.GetWorker() != "" {
			v.say("The sync's server stopped or cannot be reached: another one goes on with the sync.")
		}
		if e.StateChanged.GetState() == understudyv1.SyncState_SYNC_STATE_CANCELLING {
			v.say("The sync is being cancelled.")
		}
	case *understudyv1.SyncEvent_ConfigurationCompleted:
		v.completed(e.ConfigurationCompleted.GetResult())
	case *understudyv1.SyncEvent_Progress:
		v.progress = e.Progress
	}
	v.showProgress()
	return nil
}

// completed keeps a result. After a takeover a type may be completed again: the later
// result stands.
func (v *textView) completed(result *understudyv1.ConfigurationResult) {
	same := func(r *understudyv1.ConfigurationResult) bool {
		return r.GetConfigurationType() == result.GetConfigurationType()
	}
	if i := slices.IndexFunc(v.results, same); i >= 0 {
		v.results[i] = result
		return
	}
	v.results = append(v.results, result)
}

func (v *textView) note(text string) { v.say(text) }

// say writes a line above the progress line.
func (v *textView) say(text string) {
	v.clear()
	say(v.err, text)
}

func (v *textView) clear() {
	if v.drawn {
		_, _ = io.WriteString(v.err, "\r\x1b[K")
		v.drawn = false
	}
}

// introduce names the sync, once.
func (v *textView) introduce(sync *understudyv1.Sync) {
	if v.introduced {
		return
	}
	v.introduced = true
	text := "Sync " + sync.GetName()
	if retried := sync.GetRetriedSync(); retried != "" {
		text += ", which retries " + retried
	}
	v.say(printable(text))
}

// showPrompt asks a person to sign in. A stream that is resumed repeats it.
func (v *textView) showPrompt(prompt *understudyv1.AuthenticationPrompt) {
	shown := prompt.GetUserCode() + " " + prompt.GetAuthorizationUri()
	if shown == v.prompted {
		return
	}
	v.prompted = shown
	var b strings.Builder
	b.WriteString("\n  ==== SIGN IN ====\n")
	if code := prompt.GetUserCode(); code != "" {
		fmt.Fprintf(&b, "  Open   %s\n  Enter  %s\n", printable(prompt.GetVerificationUri()), printable(code))
	}
	if uri := prompt.GetAuthorizationUri(); uri != "" {
		fmt.Fprintf(&b, "  Or sign in with a browser: %s\n", printable(uri))
	}
	if expires := prompt.GetExpireTime(); expires != nil {
		left := max(time.Until(expires.AsTime()), 0).Round(time.Second)
		fmt.Fprintf(&b, "  Until  %s, in %s\n", expires.AsTime().In(v.location).Format("15:04:05"), left)
	}
	b.WriteString("  Meanwhile the sync reads what the service principal can read.\n")
	v.say(b.String())
}

// showFailure says why an identity failed, and what it means.
func (v *textView) showFailure(event *understudyv1.AuthenticationFailed) {
	failure := event.GetFailure()
	var b strings.Builder
	fmt.Fprintf(&b, "\n  ! %s\n", printable(failure.GetMessage()))
	fmt.Fprintf(&b, "    Reason: %s%s\n", authReason(failure), providerCode(failure))
	fmt.Fprintf(&b, "    Help:   %s\n", helpOfFailure(failure))
	if n := failure.GetAffectedCount(); n > 0 {
		fmt.Fprintf(&b, "    Not backed up for that: %s.\n", counted(int(n), "configuration type"))
	}
	if with := event.GetContinuesWith(); with != understudyv1.Identity_IDENTITY_UNSPECIFIED {
		fmt.Fprintf(&b, "    The sync goes on with %s.\n", identityName(with))
	}
	v.say(b.String())
}

// showProgress draws the progress line; where there is no terminal it writes one
// now and then.
func (v *textView) showProgress() {
	interval := lineInterval
	if v.width != nil {
		interval = drawInterval
	}
	now := time.Now()
	if v.progress == nil || now.Sub(v.lastDrawn) < interval && (v.drawn || v.width == nil) {
		return
	}
	v.lastDrawn = now
	text := v.progressText(now)
	if v.width == nil {
		say(v.err, text)
		return
	}
	// A line as wide as the terminal would wrap, and stay.
	if runes, width := []rune(text), max(v.width()-1, 0); len(runes) > width {
		text = string(runes[:width])
	}
	_, _ = io.WriteString(v.err, "\r\x1b[K"+text)
	v.drawn = true
}

// progressText is how far the sync is.
func (v *textView) progressText(now time.Time) string {
	p := v.progress
	elapsed := now.Sub(v.began).Round(time.Second)
	if p.GetPhase() == understudyv1.SyncPhase_SYNC_PHASE_QUEUED {
		if p.GetQueuePosition() == 0 {
			return fmt.Sprintf("[%s] Waiting for a server to take it", elapsed)
		}
		return fmt.Sprintf("[%s] Waiting: %s before this one", elapsed, counted(int(p.GetQueuePosition()), "sync"))
	}
	text := fmt.Sprintf("[%s] %s: %d of %s, %s", elapsed, title(words(p.GetPhase().String(), "SYNC_PHASE_")),
		len(v.results), counted(v.total, "configuration type"), counted(int(p.GetItemsRead()), "item"))
	if delay := p.GetThrottleDelay().AsDuration(); delay > 0 {
		text += fmt.Sprintf("; the tenant makes requests wait %s", delay.Round(100*time.Millisecond))
	}
	if active := p.GetActiveConfigurationTypes(); len(active) > 0 {
		text += "; " + strings.Join(active[:min(len(active), shownActive)], ", ")
		if more := len(active) - shownActive; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
	}
	return printable(text)
}

// shownActive is how many of the types that are being read a line names.
const shownActive = 3
