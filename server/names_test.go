package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

// namedTypes refer to groups, or have secrets that only the type of an object tells of.
var namedTypes = []string{
	"entra/conditional-access-policies", "entra/groups", "intune/configuration-policies", "intune/device-configurations",
}

// namesOf returns the names beside the ids of a type: id → name.
func (h *harness) namesOf(configurationType string) map[string]string {
	h.Helper()
	content := h.git("contoso", "show", "main:"+configurationType+"/_names.json")
	var named map[string]struct {
		ConfigurationType string `json:"configuration_type"`
		DisplayName       string `json:"display_name"`
	}
	if err := json.Unmarshal([]byte(content), &named); err != nil {
		h.Fatalf("%v: %s", err, content)
	}
	names := map[string]string{}
	for id, object := range named {
		if object.ConfigurationType != "entra/groups" {
			h.Errorf("%s is said to be of %s", id, object.ConfigurationType)
		}
		names[id] = object.DisplayName
	}
	return names
}

// assignedGroup finds groups in an item.
var assignedGroup = regexp.MustCompile(`"groupId": "([^"]+)"`)

// assignedGroups returns the groups that the items of a type are assigned to, sorted.
func (h *harness) assignedGroups(configurationType string) []string {
	h.Helper()
	var ids []string
	for path := range h.files("contoso") {
		if strings.HasPrefix(path, configurationType+"/") {
			for _, found := range assignedGroup.FindAllStringSubmatch(h.git("contoso", "show", "main:"+path), -1) {
				ids = append(ids, found[1])
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (h *harness) outcomeOf(s *story, configurationType string) understudyv1.ConfigurationOutcome {
	h.Helper()
	for _, event := range s.durable {
		if r := event.GetConfigurationCompleted().GetResult(); r.GetConfigurationType() == configurationType {
			return r.GetOutcome()
		}
	}
	h.Fatalf("%s has no result", configurationType)
	return 0
}

// Beside the ids of groups stand their names; a renamed group is renamed wherever it
// is referred to, but for what was not read, and no policy counts as changed.
func TestNamesBesideIDs(t *testing.T) {
	t.Parallel()
	const configurations, policies = "intune/device-configurations", "entra/conditional-access-policies"
	const changed, unchanged = understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_CHANGED, understudyv1.ConfigurationOutcome_CONFIGURATION_OUTCOME_UNCHANGED
	h := newHarness(t, func(c *labConfig) { c.Types = namedTypes })
	h.mustSync("contoso", nil, nobody)
	groupIDs := map[string]int{}
	for i := range 3 { // the tenant begins with three
		groupIDs[h.groupID(i)] = i
	}
	assigned := h.assignedGroups(configurations)
	names := h.namesOf(configurations)
	if len(assigned) == 0 || len(names) != len(assigned) {
		t.Fatalf("assigned to %v, named %v", assigned, names)
	}
	for _, id := range assigned {
		if want := fmt.Sprint("Groups ", groupIDs[id]+1); names[id] != want {
			t.Errorf("%s is called %q, want %q", id, names[id], want)
		}
	}

	rename := func(name string) {
		for id := range h.namesOf(policies) {
			h.must(h.lab.simulator.RenameItem(groups, groupIDs[id], name))
		}
		for _, id := range assigned {
			h.must(h.lab.simulator.RenameItem(groups, groupIDs[id], name))
		}
	}
	follows := func(configurationType, want string) {
		t.Helper()
		for id, name := range h.namesOf(configurationType) {
			if name != want {
				t.Errorf("%s: %s is called %q, want %q", configurationType, id, name, want)
			}
		}
	}
	rename("Sales <new>")
	story := h.mustSync("contoso", nil, nobody)
	if !story.final.GetSnapshot().GetCreated() || h.outcomeOf(story, configurations) != unchanged || h.outcomeOf(story, "entra/groups") != changed {
		t.Errorf("after a rename:\n%s", story.text())
	}
	follows(configurations, "Sales <new>")
	follows(policies, "Sales <new>")
	if again := h.mustSync("contoso", nil, nobody); again.final.GetSnapshot().GetCreated() {
		t.Errorf("a commit, though nothing changed:\n%s", again.text())
	}

	before := h.files("contoso")[configurations+"/_names.json"]
	rename("Later")
	h.wrong(fault("type-fails", "/beta/deviceManagement/deviceConfigurations$", 500)...)
	h.sync("contoso", nil, nobody)
	if h.files("contoso")[configurations+"/_names.json"] != before {
		t.Error("the names of what was not read changed")
	}
	follows(policies, "Later")
	h.wrong()
	h.mustSync("contoso", nil, nobody)
	follows(configurations, "Later")
	if out := h.git("contoso", "fsck", "--full", "--strict"); strings.Contains(out, "error") {
		t.Errorf("git fsck: %s", out)
	}
	h.leaksNothing()
}

// Secrets that only the type of the object tells of, at any depth, are in no file, log
// or event.
func TestSecretsByType(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(c *labConfig) { c.Types, c.Items = namedTypes, 12 })
	h.mustSync("contoso", nil, nobody)
	settings, profiles := 0, 0
	for path := range h.files("contoso") {
		if !strings.HasPrefix(path, "intune/") {
			continue
		}
		content := h.git("contoso", "show", "main:"+path)
		settings += strings.Count(content, "SecretSettingValue")
		if strings.Contains(content, "windows81WifiImportConfiguration") {
			if profiles++; !strings.Contains(content, `"payload": "hmac-sha256:`) {
				t.Errorf("%s: the profile is no fingerprint:\n%s", path, content)
			}
		}
	}
	if settings == 0 || profiles == 0 {
		t.Errorf("%d secret settings and %d Wi-Fi profiles: nothing was shown", settings, profiles)
	}
	h.leaksNothing()
}
