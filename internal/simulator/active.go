package simulator

import (
	"net/http"
	"slices"
	"strings"
	"sync"
)

// active is a scenario that is on.
type active struct {
	Scenario
	*scenarioDefinition
	pattern pathPattern

	mu sync.Mutex
	// seen counts what it concerns; refused how often each address was refused.
	seen    int
	refused map[string]int
}

func newActive(sc Scenario) *active {
	d, _ := definition(sc.Name)
	return &active{Scenario: sc, scenarioDefinition: d, pattern: parsePattern(sc.Path), refused: map[string]int{}}
}

// due says whether it is the turn of the fault, for an address; it counts.
func (a *active) due(address string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen++
	if a.seen <= a.After {
		return false
	}
	times := a.times
	if a.Times != 0 {
		times = a.Times
	}
	if times <= 0 {
		return true
	}
	if a.refused[address] >= times {
		return false
	}
	a.refused[address]++
	return true
}

// concerns says whether a scenario is about a request of Graph.
func (a *active) concerns(q *request) bool {
	if a.Identity != "" && kindOf(a.Identity, "") != q.token.Kind {
		return false
	}
	if a.Path == "" && a.share > 0 && mix(extend(0, q.path))%a.share != 0 {
		return false
	}
	return a.pattern.in(q.version, q.segments)
}

// graphFault returns what is wrong with an answer of Graph. Of several scenarios
// the last refuses; what they do to lists adds up.
func (s *Simulator) graphFault(q *request) fault {
	var f fault
	list := s.active.Load()
	if list == nil {
		return f
	}
	for _, a := range *list {
		if a.Name == revokedMidRun {
			if q.token.Kind == kindOf(a.Identity, a.kind) && q.token.Epoch == s.epoch(q.token.Kind) && a.due("") {
				s.revoke(a, q.token.Kind)
			}
			continue
		}
		if a.graph == nil || !a.concerns(q) {
			continue
		}
		second := strings.Contains(q.query, "skiptoken=")
		if a.Name == "page-fails" && !second {
			f.pages, f.deep = true, a.pattern.toEnd
			continue
		}
		if a.due(q.path + "?" + q.query) {
			a.graph(&f, &a.Scenario)
			f.deep = a.pattern.toEnd
		}
	}
	return f
}

// revoke takes an identity its tokens, once for each time that the scenario is
// switched on.
func (s *Simulator) revoke(a *active, kind string) {
	a.mu.Lock()
	first := a.refused["revoked"] == 0
	a.refused["revoked"]++
	a.mu.Unlock()
	if first {
		s.mu.Lock()
		s.epochs[kind]++
		s.mu.Unlock()
	}
}

func (s *Simulator) epoch(kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epochs[kind]
}

func (s *Simulator) isRevoked(token *claims) bool { return token.Epoch != s.epoch(token.Kind) }

// authFault returns what is wrong with a sign-in.
func (s *Simulator) authFault(kind, grant string) *authFault {
	list := s.active.Load()
	if list == nil {
		return nil
	}
	for _, a := range *list {
		if kindOf(a.Identity, a.kind) != kind {
			continue
		}
		if a.Name == revokedMidRun {
			if f := a.afterRevocation(kind, grant); f != nil {
				return f
			}
			continue
		}
		if a.auth == nil || (len(a.auth.grants) > 0 && !contains(a.auth.grants, grant)) {
			continue
		}
		if grant == beforeSignIn && !a.auth.hang {
			continue // nobody is refused yet
		}
		if a.due(grant) {
			return a.auth
		}
	}
	return nil
}

// afterRevocation is how Entra refuses an identity that was revoked. A person may
// sign in again.
func (a *active) afterRevocation(kind, grant string) *authFault {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.refused["revoked"] == 0:
		return nil
	case kind == application:
		return &authFault{status: http.StatusBadRequest, oauthError: "unauthorized_client", code: 7000112}
	case grant == grantRefresh || grant == grantPassword:
		return invalidGrant(50173, "")
	}
	return nil
}

// missingPermission says whether a scenario took a permission away.
func (s *Simulator) missingPermission(kind, permission string) bool {
	list := s.active.Load()
	if list == nil {
		return false
	}
	for _, a := range *list {
		if a.Name == permissionMissing && kindOf(a.Identity, kind) == kind && strings.EqualFold(a.Permission, permission) {
			return true
		}
	}
	return false
}

// letsIn says whether an application may read what is documented for users only.
func (s *Simulator) letsIn(q *request) bool {
	list := s.active.Load()
	return list != nil && slices.ContainsFunc(*list, func(a *active) bool {
		return a.Name == applicationLetIn && a.concerns(q)
	})
}

// granted says whether an identity has all of some permissions.
func (s *Simulator) granted(kind string, permissions []string) bool {
	for _, permission := range permissions {
		if grants := s.grants[kind]; grants != nil && !grants[permission] {
			return false
		}
		if s.missingPermission(kind, permission) {
			return false
		}
	}
	return true
}

// notAvailable returns how Graph says that the tenant does not have what is at a
// place, if it has not.
func (s *Simulator) notAvailable(q *request, p place) fault {
	for _, pattern := range s.unavailable {
		if pattern.in(q.version, q.segments) {
			return wayOf(q, p, 0)
		}
	}
	if list := s.active.Load(); list != nil {
		for _, a := range *list {
			if a.Name == notAvailableName && a.concerns(q) {
				return wayOf(q, p, a.Status)
			}
		}
	}
	return fault{}
}

// wayOf returns how the workload of a path says "not here".
func wayOf(q *request, p place, status int) fault {
	first := ""
	if len(q.segments) > 0 {
		first = strings.ToLower(q.segments[0])
	}
	switch {
	case status != 0:
		return fault{status: status, code: codeOf(status), message: "not here"}
	case first == "devicemanagement" || first == "deviceappmanagement":
		return fault{status: http.StatusBadRequest, code: "BadRequest", message: "Request not applicable to target tenant."}
	case first == "sites":
		return fault{status: http.StatusBadRequest, code: "BadRequest", message: "Tenant does not have a SPO license."}
	case q.version == "beta" && p.node.kind == object && p.hash%2 == 0:
		return fault{status: http.StatusNotFound, code: "ResourceNotFound", message: "not found"}
	case q.version == "beta" && p.node.kind == object:
		return fault{status: http.StatusNotImplemented, code: "NotImplemented", message: "not implemented"}
	}
	return fault{
		status: http.StatusForbidden, code: "AadPremiumLicenseRequired",
		message: "Neither tenant is B2C or tenant doesn't have premium license.",
	}
}
