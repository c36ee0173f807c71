package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// request is what is sent to a service: size bytes.
type request struct {
	body io.Reader
	size int64
}

// answer is what comes back.
type answer = io.ReadCloser

// httpsRemote speaks Git's smart protocol over https. A request streams: go-git's
// own client keeps the whole pack in memory. Redirects are not followed: a
// credential travels with each request.
//
// https://git-scm.com/docs/http-protocol
type httpsRemote struct {
	remote *remote
	url    string
	client *http.Client
}

func newHTTPSRemote(r *remote, u *url.URL) httpsRemote {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if r.HTTPClient != nil {
		client.Transport = r.HTTPClient.Transport
	}
	return httpsRemote{remote: r, url: strings.TrimSuffix(u.String(), "/"), client: client}
}

// maxRefs bounds what a remote may advertise.
const maxRefs = 64 << 20

func (h httpsRemote) dial(ctx context.Context, service string) (*exchange, error) {
	address := h.url + "/info/refs?service=" + url.QueryEscape(service)
	body, err := h.do(ctx, http.MethodGet, address, "application/x-"+service+"-advertisement", "", request{})
	if err != nil {
		return nil, err
	}
	refs, err := readRefs(io.LimitReader(body, maxRefs))
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	return &exchange{
		refs: refs,
		send: func(r request) (answer, error) {
			return h.do(ctx, http.MethodPost, h.url+"/"+service,
				"application/x-"+service+"-result", "application/x-"+service+"-request", r)
		},
		close: func() {},
	}, nil
}

func (h httpsRemote) do(ctx context.Context, method, address, accept, contentType string, r request) (answer, error) {
	var body io.Reader // no reader is not a nil reader
	if r.body != nil {
		body = io.NopCloser(r.body)
	}
	ask, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	ask.ContentLength = r.size
	ask.Header.Set("Accept", accept)
	ask.Header.Set("User-Agent", "git/understudy") // some hosts look for git
	if contentType != "" {
		ask.Header.Set("Content-Type", contentType)
	}
	if h.remote.Token != nil {
		token, err := h.remote.Token()
		if err != nil {
			return nil, &RemoteError{Reason: RemoteCredential}
		}
		ask.SetBasicAuth(h.remote.Username, token)
	}
	got, err := h.client.Do(ask)
	if err != nil {
		return nil, err
	}
	if err := checkAnswer(got, accept); err != nil {
		got.Body.Close()
		return nil, err
	}
	return got.Body, nil
}

func checkAnswer(got *http.Response, accept string) error {
	status := fmt.Sprintf("HTTP %d", got.StatusCode)
	switch code := got.StatusCode; {
	case code == http.StatusOK:
		if kind, _, err := mime.ParseMediaType(got.Header.Get("Content-Type")); err != nil || kind != accept {
			return &RemoteError{Reason: RemoteBroken, Detail: "it is not of Git's media type"}
		}
		return nil
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return &RemoteError{Reason: RemoteUnauthorized, Detail: status}
	case code == http.StatusNotFound, code == http.StatusGone:
		return &RemoteError{Reason: RemoteNotFound, Detail: status}
	case code >= 300 && code < 400:
		return &RemoteError{Reason: RemoteNotFound, Detail: status + ": it has another address now, which has to be configured"}
	case code == http.StatusRequestEntityTooLarge:
		return &RemoteError{Reason: RemoteRejected, Detail: status}
	}
	return &RemoteError{Reason: RemoteUnreachable, Detail: status}
}

// readRefs reads what a service advertises. An empty repository advertises nothing.
func readRefs(from io.Reader) (*packp.AdvRefs, error) {
	refs := packp.NewAdvRefs()
	err := refs.Decode(from)
	var unexpected *packp.ErrUnexpectedData
	switch {
	case err == nil, errors.Is(err, packp.ErrEmptyAdvRefs):
		return refs, nil
	case errors.As(err, &unexpected):
		return nil, &RemoteError{Reason: RemoteBroken, Detail: "its references cannot be read"}
	}
	return nil, err
}
