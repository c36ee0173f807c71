package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamError says that a stream on a cluster keeps more than this process is configured
// to keep: for longer, or on more servers. A process that starts does not take that away
// from all others, also not because of a mistake in its configuration.
type StreamError struct {
	// Stream is the name of the stream.
	Stream string
	// Is and Wanted are how long it keeps what is stored; 0: for ever.
	Is, Wanted time.Duration
	// Replicas and WantedReplicas are on how many servers.
	Replicas, WantedReplicas int
}

func (e *StreamError) Error() string {
	var differs, flags []string
	if e.WantedReplicas < e.Replicas {
		differs = append(differs, fmt.Sprintf("on %d servers, and this process wants %d (journal.cluster.replicas)", e.Replicas, e.WantedReplicas))
		flags = append(flags, fmt.Sprintf("--replicas %d", e.WantedReplicas))
	}
	if e.shorter() {
		kept := "for ever"
		if e.Is > 0 {
			kept = "for " + hours(e.Is)
		}
		differs = append(differs, fmt.Sprintf("%s, and this process wants %s (journal.retention)", kept, hours(e.Wanted)))
		flags = append(flags, "--max-age "+hours(e.Wanted))
	}
	return fmt.Sprintf("the stream %s keeps what is stored %s: a start does not take that away from all replicas. "+
		"Give this process the configuration of the others; or, if it is meant, give it to all, run `nats stream edit %s %s`, and start them",
		e.Stream, strings.Join(differs, "; and "), e.Stream, strings.Join(flags, " "))
}

// shorter says whether less would be kept of what is there.
func (e *StreamError) shorter() bool { return e.Wanted > 0 && (e.Is == 0 || e.Wanted < e.Is) }

// openStream makes a stream, or lets it keep more than it does. One that is shared is
// refused with a [*StreamError] where it would keep less.
func openStream(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig, shared bool) (jetstream.Stream, error) {
	opened, err := js.Stream(ctx, config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		opened, err = js.CreateStream(ctx, config)
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return opened, err
		}
		// Another process made it just now, with another configuration.
		opened, err = js.Stream(ctx, config.Name)
	}
	if err != nil {
		return nil, err
	}
	is := opened.CachedInfo().Config
	less := &StreamError{
		Stream: config.Name, Is: is.MaxAge, Wanted: config.MaxAge, Replicas: is.Replicas, WantedReplicas: config.Replicas,
	}
	if shared && (less.shorter() || less.WantedReplicas < less.Replicas) {
		return nil, less
	}
	wanted := is // with what its operator set besides
	wanted.MaxAge, wanted.Replicas, wanted.Subjects = config.MaxAge, config.Replicas, config.Subjects
	wanted.MaxMsgsPerSubject = cmp.Or(config.MaxMsgsPerSubject, -1)
	wanted.AllowAtomicPublish, wanted.AllowDirect = config.AllowAtomicPublish, config.AllowDirect
	if reflect.DeepEqual(is, wanted) {
		return opened, nil
	}
	return js.UpdateStream(ctx, wanted)
}

// hours is a duration without the minutes and seconds that it does not have.
func hours(d time.Duration) string {
	text := d.String()
	for _, none := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, none) {
			text = text[:len(text)-2]
		}
	}
	return text
}
