package vault

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// stream makes a conversation of the input and output of a service's process. stop
// ends it at once, if it still runs.
func stream(in io.WriteCloser, out io.Reader, stop func()) (*exchange, error) {
	refs, err := readRefs(out)
	if errors.Is(err, packp.ErrEmptyInput) {
		err = &RemoteError{Reason: RemoteNotFound} // what it says about it is on its error output
	}
	if err != nil {
		stop()
		return nil, err
	}
	sent := false
	return &exchange{
		refs: refs,
		send: func(r request) (answer, error) {
			sent = true
			_, err := io.Copy(in, r.body)
			// A service that refuses early stops reading; its answer says why.
			if err := errors.Join(in.Close(), err); err != nil && !isBrokenPipe(err) {
				return nil, err
			}
			return io.NopCloser(out), nil
		},
		close: func() {
			if !sent {
				_, _ = io.WriteString(in, "0000") // a flush: that was all
				in.Close()
			}
			stop()
		},
	}, nil
}

// fileRemote is a repository on this machine.
type fileRemote struct{ path string }

// processGrace is how long a service may take to end when it was told to.
const processGrace = 5 * time.Second

func (f fileRemote) dial(ctx context.Context, service string) (*exchange, error) {
	ctx, cancel := context.WithCancel(ctx)
	command := exec.CommandContext(ctx, "git", strings.TrimPrefix(service, "git-"), f.path)
	command.WaitDelay = processGrace
	in, err := command.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := command.Start(); err != nil {
		cancel()
		return nil, &RemoteError{Reason: RemoteUnreachable, Detail: "the git command cannot be run"}
	}
	return stream(in, out, func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out) // it ends by itself, or with the context
		cancel()
		_ = command.Wait()
	})
}
