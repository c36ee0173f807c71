package engine_test

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/engine"
	"understudy.internal/internal/port"
)

// authError is an AuthError of a fake identity.
type authError struct{ failure *understudyv1.AuthFailure }

func (e *authError) Error() string                          { return e.failure.GetReason().String() }
func (e *authError) AuthFailure() *understudyv1.AuthFailure { return proto.CloneOf(e.failure) }

// fakeIdentity signs in as signIn says.
type fakeIdentity struct {
	identity understudyv1.Identity
	signIn   func(ctx context.Context, options port.SignInOptions) error
	signIns  int
}

func (f *fakeIdentity) SignIn(ctx context.Context, options port.SignInOptions) (understudyv1.AuthenticationMethod, error) {
	f.signIns++
	method := understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_CLIENT_SECRET
	if f.identity == understudyv1.Identity_IDENTITY_USER {
		method = understudyv1.AuthenticationMethod_AUTHENTICATION_METHOD_DEVICE_CODE
	}
	if f.signIn == nil {
		return method, nil
	}
	return method, f.signIn(ctx, options)
}

func (f *fakeIdentity) Token(context.Context, port.TokenRequest) (port.Token, error) {
	return port.Token{}, nil
}

func (f *fakeIdentity) Fail(reason understudyv1.AuthFailureReason, missing ...string) error {
	return &authError{&understudyv1.AuthFailure{
		Identity: f.identity, Reason: reason, Message: reason.String(), MissingPermissions: missing,
	}}
}

// refuse makes a sign-in fail.
func (f *fakeIdentity) refuse(reason understudyv1.AuthFailureReason) {
	f.signIn = func(context.Context, port.SignInOptions) error { return f.Fail(reason) }
}

// readFunc reads one type.
type readFunc func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error

// items reads items completely.
func items(ids ...string) readFunc {
	return func(_ context.Context, _ port.Identity, sink func(port.Item) error) error {
		for _, id := range ids {
			if err := sink(port.Item{ID: id, JSON: []byte(`{}`)}); err != nil {
				return err
			}
		}
		return nil
	}
}

// fails reads items, then fails.
func fails(err error, ids ...string) readFunc {
	return func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
		if err := items(ids...)(ctx, identity, sink); err != nil {
			return err
		}
		return err
	}
}

// blocks reads items, then waits for the end of the context.
func blocks(ids ...string) readFunc {
	return func(ctx context.Context, identity port.Identity, sink func(port.Item) error) error {
		if err := items(ids...)(ctx, identity, sink); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
}

// fakeSource reads what reads says, or two items.
type fakeSource struct {
	reads map[string]readFunc
	// without is [port.Increment.Without] by type.
	without map[string][]string
}

func (f *fakeSource) Open() port.Session { return &fakeSession{f} }

type fakeSession struct{ source *fakeSource }

func (f *fakeSession) Read(ctx context.Context, t *catalog.Type, identity port.Identity, sink func(port.Item) error) error {
	if read := f.source.reads[t.ID]; read != nil {
		return read(ctx, identity, sink)
	}
	return items("a", "b")(ctx, identity, sink)
}

func (f *fakeSession) ReadSince(
	ctx context.Context, t *catalog.Type, identity port.Identity, _ port.Cursor, sink func(port.Item) error,
) (port.Increment, error) {
	err := f.Read(ctx, t, identity, sink)
	return port.Increment{Mode: understudyv1.ReadMode_READ_MODE_FULL, Without: f.source.without[t.ID]}, err
}

func (f *fakeSession) Stats() port.SourceStats { return port.SourceStats{} }
func (f *fakeSession) Close()                  {}

// fakeTenants knows one tenant, or more.
type fakeTenants struct {
	tenant *engine.Tenant
	more   map[string]*engine.Tenant
	// onTenant is called at every look-up.
	onTenant func()
}

func (f *fakeTenants) Tenant(name string) (*engine.Tenant, error) {
	if f.onTenant != nil {
		f.onTenant()
	}
	if f.tenant != nil && name == f.tenant.Name {
		return f.tenant, nil
	}
	if tenant := f.more[name]; tenant != nil {
		return tenant, nil
	}
	return nil, &port.NotFoundError{Resource: name}
}

// fakeCatalog has the types of the tests.
type fakeCatalog struct{ types []*catalog.Type }

func (f *fakeCatalog) Select(patterns []string) ([]*catalog.Type, error) {
	var selected []*catalog.Type
	for _, t := range f.types {
		if slices.Contains(patterns, "*") || slices.Contains(patterns, t.ID) {
			selected = append(selected, t)
		}
	}
	for i, pattern := range patterns {
		if _, ok := f.Get(pattern); !ok && pattern != "*" {
			return nil, &catalog.UnknownPatternError{Index: i, Pattern: pattern}
		}
	}
	return selected, nil
}

func (f *fakeCatalog) Get(id string) (*catalog.Type, bool) {
	i := slices.IndexFunc(f.types, func(t *catalog.Type) bool { return t.ID == id })
	if i < 0 {
		return nil, false
	}
	return f.types[i], true
}

func (f *fakeCatalog) Version() string { return "test" }

const waitLimit = time.Hour
