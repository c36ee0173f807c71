package vault

import (
	"context"
	"time"
)

// watched is an exchange that is cancelled when nothing comes for so long. What we do
// with what came does not count.
func (e *exchange) watched(patience time.Duration, cancel context.CancelFunc) *exchange {
	timer := time.AfterFunc(patience, cancel)
	timer.Stop()
	return &exchange{
		refs: e.refs,
		send: func(r request) (answer, error) {
			timer.Reset(patience)
			defer timer.Stop()
			got, err := e.send(r)
			if err != nil {
				return nil, err
			}
			return &watchedAnswer{answer: got, timer: timer, patience: patience}, nil
		},
		close: e.close,
	}
}

// watchedAnswer is an answer with a bound on each read.
type watchedAnswer struct {
	answer
	timer    *time.Timer
	patience time.Duration
}

// Read implements [io.Reader].
func (a *watchedAnswer) Read(p []byte) (int, error) {
	a.timer.Reset(a.patience)
	defer a.timer.Stop()
	return a.answer.Read(p)
}
