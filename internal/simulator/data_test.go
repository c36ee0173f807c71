package simulator_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"understudy.internal/internal/simulator"
)

// page returns the items of a list's answer.
func (x *tenant) page(path, token string) []map[string]any {
	x.t.Helper()
	a := x.get(path, token)
	var body struct {
		Value []map[string]any `json:"value"`
	}
	if err := json.Unmarshal(a.body, &body); err != nil || a.status != http.StatusOK {
		x.t.Fatalf("%s: %d %.200s", path, a.status, a.body)
	}
	return body.Value
}

// TestDeterministic says that the seed makes the tenant, and nothing else does.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	content := func(seed uint64, path string) string {
		x := start(t, simulator.Config{Seed: seed})
		items := x.page(path, x.token(bySecret))
		for _, item := range items {
			delete(item, "@odata.etag")
			delete(item, "lastModifiedDateTime")
			delete(item, "roleScopeTagIds")
			delete(item, "version")
		}
		return fmt.Sprint(items)
	}
	for _, path := range []string{"/v1.0/groups", "/beta/deviceManagement/deviceConfigurations", "/beta/identity/conditionalAccess/policies"} {
		first, again, other := content(1, path), content(1, path), content(2, path)
		if first != again {
			t.Errorf("%s: the same seed gave two tenants", path)
		}
		if first == other {
			t.Errorf("%s: two seeds gave one tenant", path)
		}
	}
}

func TestVolatile(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{})
	token := x.token(bySecret)
	path := "/beta/deviceManagement/deviceConfigurations"
	seen := map[string]map[string]bool{"@odata.etag": {}, "lastModifiedDateTime": {}, "roleScopeTagIds": {}, "version": {}}
	for range 4 {
		item := x.page(path, token)[0]
		for name, values := range seen {
			values[fmt.Sprint(item[name])] = true
		}
	}
	for name, values := range seen {
		if len(values) < 2 {
			t.Errorf("%s does not change: %v", name, values)
		}
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Items: 3})
	token := x.token(bySecret)
	before := x.page("/v1.0/groups", token)
	address := fmt.Sprint("/v1.0/groups/", before[1]["id"])
	for _, err := range []error{x.ChangeItem("/v1.0/groups", 1), x.RemoveItem("/v1.0/groups", 0)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	after := x.page("/v1.0/groups", token)
	if len(after) != 2 || after[0]["id"] != before[1]["id"] || after[0]["description"] == before[1]["description"] ||
		after[1]["description"] != before[2]["description"] {
		t.Errorf("before %v\nafter %v", before, after)
	}
	if a := x.get(address, token); a.json["description"] != after[0]["description"] {
		t.Errorf("on its own the item is %s", a.body)
	}
	if a := x.get(fmt.Sprint("/v1.0/groups/", before[0]["id"], "/owners"), token); a.status != http.StatusNotFound {
		t.Errorf("below a removed item: %d", a.status)
	}
	if err := x.SetCount("/v1.0/groups", 250); err != nil {
		t.Fatal(err)
	}
	if got := x.page("/v1.0/groups?$top=999", token); len(got) != 249 {
		t.Errorf("%d items, want 249", len(got))
	}
	single := "/v1.0/policies/authorizationPolicy"
	was := x.get(single, token).json["description"]
	if err := x.ChangeItem(single, 0); err != nil || x.get(single, token).json["description"] == was {
		t.Errorf("a singleton does not change: %v", err)
	}
	x.Reset()
	if got := x.page("/v1.0/groups", x.token(bySecret)); len(got) != 3 {
		t.Errorf("after Reset there are %d items", len(got))
	}
	var unknown *simulator.UnknownPathError
	for _, path := range []string{"", "/groups", "/v1.0/nothing", "/v1.0/groups/none/owners", single} {
		if err := x.SetCount(path, 1); !errors.As(err, &unknown) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Counts: map[string]int{"/v1.0/groups": 250}})
	token := x.token(bySecret)
	next, pages, ids := x.URL()+"/v1.0/groups?$select=id,displayName", 0, map[any]bool{}
	for next != "" {
		a := x.do(http.MethodGet, next, token, "")
		values, _ := a.json["value"].([]any)
		for _, v := range values {
			item, _ := v.(map[string]any)
			ids[item["id"]] = true
			if item["displayName"] == "" || item["description"] != nil {
				t.Fatalf("not what was selected: %v", item)
			}
		}
		pages++
		next, _ = a.json["@odata.nextLink"].(string)
	}
	if pages != 3 || len(ids) != 250 {
		t.Errorf("%d pages with %d items, want 3 with 250", pages, len(ids))
	}
	if a := x.get("/v1.0/groups?$skiptoken=x", token); a.status != http.StatusBadRequest {
		t.Errorf("a wrong skip token: %d", a.status)
	}
}

func TestExpandAndDetails(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{})
	token := x.token(bySecret)
	list := x.page("/beta/deviceManagement/deviceManagementScripts", token)
	if _, ok := list[0]["scriptContent"]; ok {
		t.Error("the list has the scripts")
	}
	script, _ := x.get(fmt.Sprint("/beta/deviceManagement/deviceManagementScripts/", list[0]["id"]), token).json["scriptContent"].(string)
	if text, err := base64.StdEncoding.DecodeString(script); err != nil || !strings.Contains(string(text), "exit 0") {
		t.Errorf("the script is %q: %v", text, err)
	}
	packages := "/v1.0/identityGovernance/entitlementManagement/accessPackages"
	address := fmt.Sprint(packages, "/", x.page(packages, token)[0]["id"])
	if a := x.get(address, token); a.json["catalog"] != nil {
		t.Error("what nobody asked to expand is there")
	}
	expanded := x.get(address+"?$expand="+url.QueryEscape("catalog,resourceRoleScopes($expand=role,scope)"), token)
	if _, ok := expanded.json["catalog"].(map[string]any); !ok {
		t.Errorf("catalog is no object: %s", expanded.body)
	}
	if _, ok := expanded.json["resourceRoleScopes"].([]any); !ok {
		t.Errorf("resourceRoleScopes is no list: %s", expanded.body)
	}
	assigned := x.page("/v1.0/roleManagement/directory/roleAssignmentSchedules?$filter="+url.QueryEscape("assignmentType eq 'Assigned'"), token)
	if assigned[0]["assignmentType"] != "Assigned" {
		t.Errorf("the filter was not obeyed: %v", assigned[0])
	}
}

// TestHostileNames reads items whose ids no path should be made of.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Hostile: true, Items: 20})
	r := x.reader()
	items, err := r.read(t.Context(), typeOf(t, "entra/groups"), r.application)
	if err != nil || len(items) != 20 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	ids := map[string]bool{}
	for _, item := range items {
		ids[item.ID] = true
	}
	for _, want := range []string{"../../x", "CON", ".git/hooks/post-commit", "Case", "case", "nul\x00byte", strings.Repeat("n", 1000)} {
		if !ids[want] {
			t.Errorf("there is no %q", want)
		}
	}
	for _, entry := range types(t) {
		if entry.Each != nil {
			continue
		}
		if _, err := r.read(t.Context(), entry, r.identity(entry)); err != nil {
			t.Errorf("%s: %v", entry.ID, err)
		}
	}
}

// What is assigned to a group is assigned to one that there is.
func TestReferencesToGroups(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Items: 5, Children: 3})
	token := x.token(bySecret)
	groups := map[any]bool{}
	for _, group := range x.page("/v1.0/groups", token) {
		groups[group["id"]] = true
	}
	found := 0
	for _, configuration := range x.page("/beta/deviceManagement/deviceConfigurations", token) {
		for _, assignment := range x.page(fmt.Sprintf("/beta/deviceManagement/deviceConfigurations/%s/assignments", configuration["id"]), token) {
			target, _ := assignment["target"].(map[string]any)
			if found++; !groups[target["groupId"]] {
				t.Errorf("an assignment to the group %v", target["groupId"])
			}
		}
	}
	for _, policy := range x.page("/beta/identity/conditionalAccess/policies", token) {
		conditions, _ := policy["conditions"].(map[string]any)
		users, _ := conditions["users"].(map[string]any)
		excluded, _ := users["excludeGroups"].([]any)
		if found++; len(excluded) != 1 || !groups[excluded[0]] {
			t.Errorf("a policy for %v", users)
		}
	}
	if found < 6 {
		t.Errorf("%d references", found)
	}
}

func TestRename(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Items: 3})
	token := x.token(bySecret)
	before := x.page("/v1.0/groups", token)
	if err := x.RenameItem("/v1.0/groups", 1, `New "name"`); err != nil {
		t.Fatal(err)
	}
	after := x.page("/v1.0/groups", token)
	if after[1]["displayName"] != `New "name"` || after[1]["id"] != before[1]["id"] || after[2]["displayName"] != before[2]["displayName"] {
		t.Errorf("after a rename: %v", after)
	}
	if one := x.get(fmt.Sprint("/v1.0/groups/", before[1]["id"]), token); one.json["displayName"] != `New "name"` {
		t.Errorf("on its own: %s", one.body)
	}
	x.Reset()
	if again := x.page("/v1.0/groups", x.token(bySecret)); again[1]["displayName"] != before[1]["displayName"] {
		t.Errorf("after Reset: %v", again[1])
	}
	var unknown *simulator.UnknownPathError
	if err := x.RenameItem("/v1.0/nothing", 1, "x"); !errors.As(err, &unknown) {
		t.Error(err)
	}
}

// Secrets that only the type of the object tells of: settings of the Settings Catalog,
// and the Wi-Fi profile, in base64.
func TestSecretsByType(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{Items: 3, Children: 9, Marker: "MARKER"})
	token := x.token(bySecret)
	settings := 0
	for _, policy := range x.page("/beta/deviceManagement/configurationPolicies", token) {
		a := x.get(fmt.Sprintf("/beta/deviceManagement/configurationPolicies/%s/settings", policy["id"]), token)
		settings += strings.Count(string(a.body), `"@odata.type":"#microsoft.graph.deviceManagementConfigurationSecretSettingValue","value":"MARKERSECRET`)
	}
	if settings == 0 {
		t.Error("no setting is secret")
	}
	profiles := 0
	for _, configuration := range x.page("/beta/deviceManagement/deviceConfigurations", token) {
		if configuration["@odata.type"] != "#microsoft.graph.windows81WifiImportConfiguration" {
			continue
		}
		one := x.get(fmt.Sprint("/beta/deviceManagement/deviceConfigurations/", configuration["id"]), token)
		encoded, _ := one.json["payload"].(string)
		// A search for the marker in base64 finds it.
		if text, err := base64.StdEncoding.DecodeString(encoded); err == nil && strings.Contains(string(text), "MARKERSECRET") &&
			strings.Contains(encoded, base64.StdEncoding.EncodeToString([]byte("MARKER"))) && configuration["payload"] == nil {
			profiles++
		}
	}
	if profiles != 1 {
		t.Errorf("%d Wi-Fi profiles have a key", profiles)
	}
}
