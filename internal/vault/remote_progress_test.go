package vault

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// slowAnswer gives a piece of its text after each wait. When it stalls, nothing comes any
// more after the first pieces, until the conversation ends.
type slowAnswer struct {
	ctx    context.Context
	text   string
	piece  int
	wait   time.Duration
	stalls bool
	given  int
}

func (s *slowAnswer) Read(p []byte) (int, error) {
	if s.given >= len(s.text) {
		return 0, io.EOF
	}
	wait := time.After(s.wait)
	if s.stalls && s.given > 2*s.piece {
		wait = nil
	}
	select {
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	case <-wait:
	}
	n := copy(p, s.text[s.given:min(s.given+s.piece, len(s.text))])
	s.given += n
	return n, nil
}

func (s *slowAnswer) Close() error { return nil }

// A remote that sends much, slowly, is waited for; one that sends nothing any more is not.
func TestRepairWaitsForASlowRemote(t *testing.T) {
	const patience = time.Minute
	for name, stalls := range map[string]bool{"slow": false, "stalled": true} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t, nil)
			s := runSync(t, v, night, whole(groups, documents(numbered(0, 50)...)))
			content, err := os.ReadFile(onePack(t, v))
			if err != nil {
				t.Fatal(err)
			}
			damageObject(t, v, "main:entra/groups/item-001.json")
			synctest.Test(t, func(t *testing.T) {
				v.remote = &remote{Remote: Remote{Timeout: patience}}
				v.remote.dial = func(ctx context.Context, _ string) (*exchange, error) {
					refs := packp.NewAdvRefs()
					refs.References[v.ref().String()] = plumbing.NewHash(s.snapshot.GetCommit())
					slow := &slowAnswer{ctx: ctx, text: "0008NAK\n" + string(content), piece: len(content) / (4 * fetchFactor), wait: patience / 2, stalls: stalls}
					return &exchange{refs: refs, send: func(request) (answer, error) { return slow, nil }, close: func() {}}, nil
				}
				began := time.Now()
				done, err := v.Repair(t.Context(), true)
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(began)
				said, loss := saidOf(done)
				if stalls {
					if !done.Held || !strings.Contains(said, string(RemoteTimedOut)) || took > 3*patience {
						t.Errorf("after %v: %+v", took, done)
					}
					return
				}
				if done.Held || loss || len(done.Left) > 0 || took < fetchFactor*patience {
					t.Errorf("after %v: %+v", took, done)
				}
			})
		})
	}
}

// The wait for an answer to begin is bounded too.
func TestRepairDoesNotWaitForAnAnswerForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		e := &exchange{send: func(request) (answer, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		began := time.Now()
		if _, err := e.watched(time.Minute, cancel).send(request{}); err == nil || time.Since(began) != time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}
