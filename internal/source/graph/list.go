package graph

import (
	"context"
	"hash/maphash"
)

// listOptions says how a list may answer.
type listOptions struct {
	// first says that the list's first page is the type's own first request.
	first bool
	// parent is the one of several parents that the list is of, or empty.
	parent string
	// singlePage says that a next page is an error.
	singlePage bool
}

// fetched is one page, or why there is none.
type fetched struct {
	page page
	call *call
	err  error
}

// list reads all pages of a list and gives their entries to handle, page by page.
// The next page is on its way while handle has the one before; so at most two
// pages are in memory. It returns the error of handle as it is.
func (r *reading) list(ctx context.Context, c *call, k *keys, options listOptions, handle func([]entry) error) error {
	return r.pages(ctx, r.fetch(ctx, c, k, options), k, options, handle)
}

// pages is list from a first page on.
func (r *reading) pages(ctx context.Context, current fetched, k *keys, options listOptions, handle func([]entry) error) error {
	links := make(map[uint64]bool)
	for pages := 1; ; pages++ {
		if current.err != nil {
			return current.err
		}
		following, err := r.follow(current, pages, options, links)
		var pending chan fetched
		if following != nil {
			pending = make(chan fetched, 1)
			go func() { pending <- r.fetchAhead(ctx, following, k) }()
		}
		handleErr := handle(current.page.entries)
		if pending != nil {
			current = <-pending
		}
		switch {
		case handleErr != nil:
			return handleErr
		case err != nil || following == nil:
			return err
		}
	}
}

// follow returns the call for the next page, nil when there is none, or why the
// next page must not be asked for.
func (r *reading) follow(f fetched, pages int, options listOptions, links map[uint64]bool) (*call, error) {
	link := f.page.next
	if link == "" {
		return nil, nil
	}
	hash := maphash.String(r.seed, link)
	switch {
	case options.singlePage:
		return nil, invalid(f.call.operation, "a list that does not page has a next page")
	case links[hash]:
		return nil, invalid(f.call.operation, "the list is endless: a next page repeats")
	case pages >= r.session.source.config.MaxPages:
		return nil, invalid(f.call.operation, "the list has more pages than the limit")
	}
	links[hash] = true
	following := r.next(f.call, link)
	if following == nil {
		return nil, invalid(f.call.operation, "the next page is on another host or of another version, and was not asked for")
	}
	return following, nil
}

// fetchAhead fetches a page in a goroutine of its own.
func (r *reading) fetchAhead(ctx context.Context, c *call, k *keys) (f fetched) {
	err := r.session.source.recovering(func() error {
		f = r.fetch(ctx, c, k, listOptions{})
		return nil
	})
	if err != nil {
		f = fetched{err: err}
	}
	return f
}

func (r *reading) fetch(ctx context.Context, c *call, k *keys, options listOptions) fetched {
	a, err := r.get(ctx, c)
	if err != nil {
		return fetched{err: err}
	}
	if !a.ok() {
		return fetched{err: r.explainFirst(c, a, options.first, options.parent)}
	}
	p, err := parsePage(a.body, k)
	if err != nil {
		return fetched{err: c.malformed(a, err)}
	}
	return fetched{page: p, call: c}
}
