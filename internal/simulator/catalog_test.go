package simulator_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
	"understudy.internal/internal/catalog"
	"understudy.internal/internal/port"
	"understudy.internal/internal/simulator"
)

// TestEveryTypeIsRead reads the whole catalog as the product does, each type with
// the identity that reads it.
func TestEveryTypeIsRead(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Seed: 7})
	r := x.reader()
	total := 0
	for _, entry := range types(t) {
		items, err := r.read(t.Context(), entry, r.identity(entry))
		if err != nil {
			t.Errorf("%s: %v", entry.ID, err)
			continue
		}
		total += len(items)
		if entry.Kind == catalog.Singleton && entry.Each == nil && len(items) != 1 {
			t.Errorf("%s: a singleton gave %d items", entry.ID, len(items))
		}
		if entry.Kind == catalog.Collection && entry.Each == nil && len(items) == 0 {
			t.Errorf("%s: no items", entry.ID)
		}
		for _, item := range items {
			if item.DisplayName == "" {
				t.Errorf("%s: an item has no name: %.200s", entry.ID, item.JSON)
				break
			}
		}
	}
	t.Logf("%d items of %d types, %d requests", total, len(types(t)), x.Stats().HTTP)
}

// TestApplicationLetIn reads with both identities what is documented for users only:
// the content is the same, unless a scenario says otherwise.
func TestApplicationLetIn(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Seed: 7})
	r := x.reader()
	letIn := simulator.Scenario{Name: "application-let-in", Path: "/agreements"}
	terms, settings := typeOf(t, "entra/terms-of-use"), typeOf(t, "print/settings")
	read := func(entry *catalog.Type, identity *bearer, scenarios ...simulator.Scenario) (int, *port.ReadError) {
		t.Helper()
		if err := x.SetScenarios(scenarios...); err != nil {
			t.Fatal(err)
		}
		items, err := r.read(t.Context(), entry, identity)
		var readError *port.ReadError
		if err != nil && !errors.As(err, &readError) {
			t.Fatal(err)
		}
		return len(items), readError
	}
	all, err := read(terms, r.user)
	if err != nil || all == 0 {
		t.Fatalf("the user reads %d items (%v)", all, err)
	}
	if got, err := read(terms, r.application, letIn); err != nil || got != all {
		t.Errorf("let in, the application reads %d items (%v), want %d", got, err, all)
	}
	if _, err := read(settings, r.application, letIn); err == nil || !err.NeedsUser {
		t.Errorf("another path: %v, want that it needs the user", err)
	}
	short := simulator.Scenario{Name: "list-collapsed", Identity: "service-principal", Path: "/termsOfUse/agreements$"}
	if got, err := read(terms, r.application, letIn, short); err != nil || got >= all {
		t.Errorf("with a short list the application reads %d items (%v)", got, err)
	}
	missing := simulator.Scenario{Name: "permission-missing", Identity: "service-principal", Permission: "Agreement.Read.All"}
	if _, err := read(terms, r.application, letIn, missing); err == nil || err.NeedsUser {
		t.Errorf("without the role: %v, want that a permission is missing", err)
	}
	if _, err := read(terms, r.application); err == nil || !err.NeedsUser {
		t.Errorf("not let in any more: %v", err)
	}
}

// TestUserOnlyTypesRefuseTheServicePrincipal reads what only a user may with the
// application's token, and the other way round.
func TestUserOnlyTypesRefuseTheServicePrincipal(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Seed: 7})
	r := x.reader()
	refused := 0
	for _, entry := range types(t) {
		identity := r.application
		switch {
		case len(entry.ServicePrincipal) > 0 && len(entry.User) > 0:
			continue
		case len(entry.User) == 0:
			identity = r.user
		}
		_, err := r.read(t.Context(), entry, identity)
		var readError *port.ReadError
		if !errors.As(err, &readError) || readError.HTTPStatus != http.StatusForbidden ||
			readError.Reason != understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_PERMISSION_MISSING {
			t.Errorf("%s: %v, want 403", entry.ID, err)
			continue
		}
		if identity == r.application && !readError.NeedsUser {
			t.Errorf("%s: the answer does not say that it needs the user", entry.ID)
		}
		refused++
	}
	if refused < 15 {
		t.Errorf("%d types were refused, want at least 15", refused)
	}
}

// TestNotAvailable asks for types that the tenant does not have, in every way that
// Graph has to say so.
func TestNotAvailable(t *testing.T) {
	t.Parallel()
	paths := []string{"/deviceManagement", "/deviceAppManagement", "/sites/root", "/identityGovernance", "/networkAccess/settings"}
	x := start(t, simulator.Config{Seed: 7, NotAvailable: paths})
	r := x.reader()
	ways := map[int]int{}
	for _, entry := range types(t) {
		if entry.Each != nil {
			continue
		}
		_, err := r.read(t.Context(), entry, r.identity(entry))
		gone := false
		for _, path := range paths {
			gone = gone || entry.Path == path || strings.HasPrefix(entry.Path, path+"/")
		}
		var readError *port.ReadError
		switch {
		case !gone && err != nil:
			t.Errorf("%s: %v", entry.ID, err)
		case gone && (!errors.As(err, &readError) ||
			readError.Reason != understudyv1.ConfigurationFailureReason_CONFIGURATION_FAILURE_REASON_FEATURE_NOT_AVAILABLE):
			t.Errorf("%s: %v, want not available", entry.ID, err)
		case gone:
			ways[readError.HTTPStatus]++
		}
	}
	for _, status := range []int{400, 403, 404, 501} {
		if ways[status] == 0 {
			t.Errorf("no type was not available with %d: %v", status, ways)
		}
	}
}
