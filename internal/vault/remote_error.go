package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
)

// RemoteError says why a remote could not be followed or pushed to. It never holds
// text of the remote.
type RemoteError struct {
	// Reason says what happened.
	Reason RemoteReason
	// Detail adds to it for the log, in this package's own words, or is empty.
	Detail string
	// replicated says that the next sync may be on another machine.
	replicated bool
}

// RemoteReason is why a remote failed.
type RemoteReason string

// The reasons.
const (
	RemoteUnreachable  RemoteReason = "unreachable"
	RemoteTimedOut     RemoteReason = "timed out"
	RemoteUntrusted    RemoteReason = "not trusted"
	RemoteCredential   RemoteReason = "credential missing"
	RemoteUnauthorized RemoteReason = "not authorized"
	RemoteNotFound     RemoteReason = "not found"
	RemoteRejected     RemoteReason = "rejected"
	RemoteMoved        RemoteReason = "moved meanwhile"
	RemoteDiverged     RemoteReason = "diverged"
	RemoteBroken       RemoteReason = "broken answer"
	RemoteLocal        RemoteReason = "local failure"
)

// remoteMessages are the messages for people: what happened, and what to do.
var remoteMessages = map[RemoteReason]string{
	RemoteUnreachable:  "The remote repository could not be reached.",
	RemoteTimedOut:     "The remote repository did not answer in time.",
	RemoteUntrusted:    "The remote repository's certificate or host key is not trusted. Add its CA or host key.",
	RemoteCredential:   "The credential for the remote repository could not be read. Check the tenant's repository settings.",
	RemoteUnauthorized: "The remote repository refused the credential. Check that it is valid and may write.",
	RemoteNotFound:     "The remote repository does not exist, or the credential may not see it.",
	RemoteRejected:     "The remote repository rejected the push, for example because the branch is protected. Let this service push to it.",
	RemoteMoved:        "Somebody else pushed to the remote branch while the sync ran.",
	RemoteDiverged: "The remote branch and the backup have changes that do not go together. " +
		"Merge the backup's branch and the remote's with Git, and push the result.",
	RemoteBroken: "The remote repository gave an answer that is not Git's.",
	RemoteLocal:  "The commits could not be read for the push: see the server's log.",
}

// Error implements error.
func (e *RemoteError) Error() string {
	text := "the remote repository: " + string(e.Reason)
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return text
}

// PublicMessage is for people who watch a sync.
func (e *RemoteError) PublicMessage() string {
	if e.replicated {
		return remoteMessages[e.Reason] + " The commit is kept on the machine that made it, whose next sync of the tenant pushes it too."
	}
	return remoteMessages[e.Reason] + " The commit is kept, and the next sync pushes it too."
}

// remoteError classifies an error of a conversation by what it is, never by what
// the other side wrote.
func remoteError(ctx context.Context, err error) *RemoteError {
	var known *RemoteError
	if errors.As(err, &known) {
		return known
	}
	if ctx.Err() != nil {
		return &RemoteError{Reason: RemoteTimedOut}
	}
	var (
		timeout     net.Error
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		operation   *net.OpError
	)
	switch {
	case errors.As(err, &certificate), errors.As(err, &authority):
		return &RemoteError{Reason: RemoteUntrusted}
	case errors.As(err, &timeout) && timeout.Timeout():
		return &RemoteError{Reason: RemoteTimedOut}
	case errors.As(err, &operation):
		return &RemoteError{Reason: RemoteUnreachable, Detail: operation.Op + " failed"}
	}
	return &RemoteError{Reason: RemoteUnreachable}
}
