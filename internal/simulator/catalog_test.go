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
