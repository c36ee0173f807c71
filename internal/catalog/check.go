package catalog

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// The forms of what an entry may say.
var (
	idForm         = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*/[a-z0-9]+(-[a-z0-9]+)*$`)
	gateForm       = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	permissionForm = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*(-[A-Za-z0-9]+)*(\.[A-Z][A-Za-z0-9]*)+$`)
	nameForm       = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`)
	segmentForm    = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9.]*(\([A-Za-z0-9='{},]*\))?|\{(id|tenantId)\})$`)
	odataTypeForm  = regexp.MustCompile(`^#microsoft\.graph\.[A-Za-z0-9.]+$`)
)

// maxChildDepth bounds children of children: the terms of a term store, which
// SharePoint nests in seven levels, are the deepest.
const maxChildDepth = 9

// check returns what is wrong with an entry of a workload's file.
func check(t *Type, workload string) []string {
	p := &problems{}
	p.when(!idForm.MatchString(t.ID), "id %q must be {workload}/{type} in kebab case", t.ID)
	p.when(t.Workload() != workload, "the workload of the id must be that of the file, %q", workload)
	p.when(strings.TrimSpace(t.DisplayName) == "", "display_name is missing")
	p.when(t.Version != "v1.0" && t.Version != "beta", "version %q must be v1.0 or beta", t.Version)
	p.kind("kind", t.Kind)
	p.path("path", t.Path)
	p.each(t)
	p.query("", t.Query)
	p.detail(t)
	p.when(t.SinglePage && t.Kind == Singleton, "single_page is for collections")
	p.children("", t.Children, 1)
	p.delta(t)
	p.when(t.IdentityProperty != "" && !nameForm.MatchString(t.IdentityProperty), "identity_property %q is no property name", t.IdentityProperty)
	p.when(t.IdentityProperty != "" && t.Kind == Singleton, "identity_property is for collections")
	p.when(t.NameProperty != "" && !nameForm.MatchString(t.NameProperty), "name_property %q is no property name", t.NameProperty)
	p.permissions("service_principal", t.ServicePrincipal)
	p.permissions("user", t.User)
	p.permissions("probe", t.Probe)
	p.when(len(t.Probe) > 0 && len(t.ServicePrincipal) > 0, "probe is for types that only the user is documented for")
	p.when(len(t.ServicePrincipal)+len(t.User) == 0, "service_principal and user are both empty: nobody can read the type")
	p.when(t.Gate != "" && !gateForm.MatchString(t.Gate), "gate %q must be in kebab case", t.Gate)
	p.propertyPaths("volatile", t.Volatile)
	p.secrets(t.Secrets, t.Volatile)
	p.arrays(t.Arrays)
	p.payloads(t.Payloads)
	p.answers("not_available", t.NotAvailable)
	return p.list
}

// problems collects what is wrong.
type problems struct{ list []string }

func (p *problems) when(wrong bool, format string, arguments ...any) {
	if wrong {
		p.list = append(p.list, fmt.Sprintf(format, arguments...))
	}
}

func (p *problems) kind(where string, kind Kind) {
	p.when(kind != Collection && kind != Singleton, "%s %q must be collection or singleton", where, kind)
}

// path checks an absolute path.
func (p *problems) path(where, path string) {
	below, absolute := strings.CutPrefix(path, "/")
	p.when(!absolute, "%s %q must begin with a slash", where, path)
	for segment := range strings.SplitSeq(below, "/") {
		p.when(!segmentForm.MatchString(segment), "%s %q has the segment %q, which is no name and no {id}", where, path, segment)
	}
}

func (p *problems) each(t *Type) {
	if t.Each == nil {
		p.when(strings.Contains(t.Path+t.Filter, "{id}"), "path or filter has an {id}, but there is no each to take it from")
		return
	}
	p.when(strings.Count(t.Path, "{id}") > 1 || !strings.Contains(t.Path+t.Filter, "{id}"),
		"path %q or the filter needs one {id} for each", t.Path)
	p.when((t.Each.Path == "") == (len(t.Each.IDs) == 0), "each needs a path or ids, and not both")
	if t.Each.Path != "" {
		p.path("each.path", t.Each.Path)
		p.when(strings.Contains(t.Each.Path, "{id}"), "each.path %q cannot have an {id}", t.Each.Path)
	}
	p.when(slices.Contains(t.Each.IDs, ""), "each.ids has an empty id")
	p.query("each.", t.Each.Query)
}

func (p *problems) detail(t *Type) {
	if t.Detail == nil {
		return
	}
	p.when(t.Kind == Singleton, "detail is for collections")
	p.query("detail.", t.Detail.Query)
	if t.Detail.Path != "" {
		p.path("detail.path", t.Detail.Path)
		p.when(strings.Count(t.Detail.Path, "{id}") != 1, "detail.path %q needs one {id}", t.Detail.Path)
		p.when(t.Each != nil, "detail.path cannot be used with each: it has one {id} only")
	}
}

func (p *problems) query(where string, q Query) {
	for _, option := range []struct{ name, value string }{{"select", q.Select}, {"expand", q.Expand}, {"filter", q.Filter}} {
		p.when(strings.HasPrefix(option.value, "$") || option.value != strings.TrimSpace(option.value),
			"%s%s %q must be the bare value of the option", where, option.name, option.value)
	}
	p.when(q.Top < 0 || q.Top > 1000, "%stop %d must be between 1 and 1000", where, q.Top)
	for name := range q.Headers {
		p.when(http.CanonicalHeaderKey(name) != name && name != "ConsistencyLevel",
			"%sheaders: %q must be spelled %q", where, name, http.CanonicalHeaderKey(name))
		p.when(http.CanonicalHeaderKey(name) == "Authorization", "%sheaders must not have Authorization", where)
	}
}

func (p *problems) children(where string, children []Child, depth int) {
	p.when(depth > maxChildDepth && len(children) > 0, "children%s are nested more than %d levels", where, maxChildDepth)
	for i, c := range children {
		at := where + "/" + c.Name
		p.when(!nameForm.MatchString(c.Name), "child %q: the name must be a property name", at)
		p.when(slices.ContainsFunc(children[:i], func(other Child) bool { return bothApply(c, other) }),
			"child %q occurs twice: give each a when of its own, or another name", at)
		p.kind("child "+at+": kind", c.Kind)
		p.path("child "+at+": path", "/"+strings.TrimPrefix(c.Path, "/"))
		p.when(strings.HasPrefix(c.Path, "/") && !strings.Contains(c.Path+c.Filter, "{id}"),
			"child %q: an absolute path needs {id} in it or in the filter", at)
		p.query("child "+at+": ", c.Query)
		p.when(c.SinglePage && c.Kind == Singleton, "child %q: single_page is for collections", at)
		p.answers("child "+at+": absent", c.Absent)
		for _, name := range c.When {
			p.when(!odataTypeForm.MatchString(name), "child %q: when %q must be #microsoft.graph.…", at, name)
		}
		p.children(at, c.Children, depth+1)
	}
}

// bothApply says whether two children could become the same property of one item.
func bothApply(a, b Child) bool {
	if a.Name != b.Name {
		return false
	}
	if len(a.When) == 0 || len(b.When) == 0 {
		return true
	}
	return slices.ContainsFunc(a.When, func(name string) bool { return slices.Contains(b.When, name) })
}

func (p *problems) permissions(where string, permissions []string) {
	for i, permission := range permissions {
		p.when(!permissionForm.MatchString(permission), "%s: %q is no permission name", where, permission)
		p.when(i > 0 && permissions[i-1] >= permission, "%s must be sorted and without repetition", where)
	}
}

func (p *problems) propertyPaths(where string, paths []string) {
	seen := make(map[string]bool)
	for _, path := range paths {
		_, err := ParsePropertyPath(path)
		p.when(err != nil, "%s: %v", where, err)
		p.when(seen[path], "%s: %q occurs twice", where, path)
		seen[path] = true
	}
}

func (p *problems) arrays(rules []ArrayRule) {
	paths := make([]string, 0, len(rules))
	for _, rule := range rules {
		paths = append(paths, rule.Path)
		if rule.Key == "" {
			continue
		}
		segments, err := ParsePropertyPath(rule.Key)
		p.when(err != nil, "arrays: key: %v", err)
		p.when(slices.Contains(segments, AnyOne) || slices.Contains(segments, AnyDepth),
			"arrays: the key %q must name one property", rule.Key)
	}
	p.propertyPaths("arrays", paths)
}

func (p *problems) answers(where string, answers []Answer) {
	for _, a := range answers {
		p.when(a == Answer{}, "%s has an answer that says nothing", where)
		p.when(a.Status != 0 && (a.Status < 400 || a.Status > 599), "%s: status %d is no error", where, a.Status)
		p.when(slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusBadRequest, http.StatusTooManyRequests}, a.Status) &&
			a.Code == "" && a.Message == "", "%s: status %d alone says too little: a missing permission would pass for it", where, a.Status)
	}
}
