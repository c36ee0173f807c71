package journal

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// What is not stored (progress, prompts) is given to the other processes by a message
// that no stream takes: a prompt holds secrets.

const (
	// headerWorker names the process that a message is from.
	headerWorker = "Understudy-Worker"
	// promptInterval is how often an open prompt is given again, for the watchers of
	// processes that did not hear of it.
	promptInterval = 3 * time.Second
	// promptTTL is how long a prompt of another process is open that is not given
	// again.
	promptTTL = 4 * promptInterval
)

// show gives an ephemeral event of a sync to the other processes.
func (j *Journal) show(name string, event *understudyv1.SyncEvent) {
	if !j.clustered() {
		return
	}
	if prompt := event.GetAuthenticationPrompt(); prompt != nil {
		j.mu.Lock()
		if withdrawn(prompt) {
			delete(j.prompts, name)
		} else {
			j.prompts[name] = proto.CloneOf(event)
		}
		j.mu.Unlock()
	}
	j.send(name, event)
}

func (j *Journal) send(name string, event *understudyv1.SyncEvent) {
	data, err := proto.Marshal(event)
	if err == nil {
		message := nats.NewMsg(j.names.shown(key(name)))
		message.Data = data
		message.Header.Set(headerWorker, j.worker)
		err = j.conn.PublishMsg(message)
	}
	if err != nil {
		j.logger.Debug("an event without sequence could not be given to the other processes", "sync", name, "error", err)
	}
}

// receiveShown takes in what another process shows.
func (j *Journal) receiveShown(message *nats.Msg) {
	if message.Header.Get(headerWorker) == j.worker {
		return
	}
	event := &understudyv1.SyncEvent{}
	if err := proto.Unmarshal(message.Data, event); err != nil {
		j.logger.Debug("what another process shows cannot be read", "subject", message.Subject)
		return
	}
	j.mu.Lock()
	l := j.live[nameOf(strings.TrimPrefix(message.Subject, j.names.shown("")))]
	j.mu.Unlock()
	// A worker that lost its sync may not know it yet, and takes back only its own prompt.
	if l != nil && l.standing().Worker == message.Header.Get(headerWorker) {
		l.publish(event, time.Now().Add(promptTTL))
	}
}

// repeatPrompts gives the open prompts of this process again and again.
func (j *Journal) repeatPrompts(ctx context.Context) {
	ticker := time.NewTicker(promptInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		j.mu.Lock()
		maps.DeleteFunc(j.prompts, func(name string, prompt *understudyv1.SyncEvent) bool {
			return j.live[name] == nil || !open(prompt)
		})
		prompts := maps.Clone(j.prompts)
		j.mu.Unlock()
		for name, prompt := range prompts {
			j.send(name, prompt)
		}
	}
}
