package simulator

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Items are made when they are asked for: the number of an item is in its id, and
// everything else follows from the seed, the path and the number.

func (s *Simulator) hash(parts ...string) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, s.config.Seed)
	for _, p := range parts {
		_, _ = h.Write([]byte("\x00" + strings.ToLower(p)))
	}
	return h.Sum64()
}

// itemID is the id of an item of a collection.
func (s *Simulator) itemID(version, path string, i int) string {
	h := s.hash(path)
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", h>>32, h>>16&0xffff, h>>4&0xfff, h&0xfff, i+1)
}

var idForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$`)

func looksLikeID(segment string) bool { return idForm.MatchString(segment) }

// number returns the number of the item with an id.
func (s *Simulator) number(version, path, id string) (int, bool) {
	if !looksLikeID(id) {
		// Ids of other forms are those that a caller knows beforehand.
		return 0, id != "" && !strings.ContainsAny(id, "$")
	}
	n, err := strconv.ParseInt(id[24:], 16, 64)
	i := int(n) - 1
	if err != nil || i < 0 || i >= s.count(version, path) || s.itemID(version, path, i) != id {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return i, !s.removed[key(version, path, i)]
}

func key(version, path string, i int) string {
	return fmt.Sprintf("/%s%s#%d", version, strings.ToLower(path), i)
}

// count returns how many items a collection has. Below an item there are a few.
func (s *Simulator) count(version, path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.counts["/"+version+strings.ToLower(path)]; ok {
		return n
	}
	if strings.Contains(path, "-4") && idInPath(path) {
		return int(s.hash(path) % 3)
	}
	return s.config.Items
}

func idInPath(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if looksLikeID(segment) {
			return true
		}
	}
	return false
}

// item returns the document of an item, as a list shows it or on its own.
func (s *Simulator) item(version, path string, i int, inList bool) ([]byte, bool) {
	s.mu.Lock()
	removed, changed := s.removed[key(version, path, i)], s.changed[key(version, path, i)]
	s.mu.Unlock()
	if removed {
		return nil, false
	}
	id := s.itemID(version, path, i)
	h := s.hash(id)
	_, name := split(path)
	created := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(h%31_000_000) * time.Second)
	document := map[string]any{
		"id":              id,
		"displayName":     fmt.Sprintf("%s %d", title(name), i+1),
		"description":     fmt.Sprintf("Simulated %s, revision %d", name, changed+1),
		"createdDateTime": created.Format(time.RFC3339),
		"@odata.etag":     fmt.Sprintf(`W/"%x"`, time.Now().UnixNano()),
		"isEnabled":       h%2 == 0,
		"priority":        json.Number(fmt.Sprint(h % 100)),
		"roleScopeTagIds": []string{"0"},
		"unknownInFuture": json.Number("1.10"),
		"largeIdentifier": json.Number("9007199254740993"),
	}
	for k, v := range special(strings.ToLower(name), h, inList) {
		document[k] = v
	}
	out, err := json.Marshal(document)
	return out, err == nil
}

// special gives well-known types what makes them what they are.
func special(name string, h uint64, inList bool) map[string]any {
	script := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "# simulated script %x\nexit 0\n", h))
	switch name {
	case "assignments":
		return map[string]any{
			"target": map[string]any{
				"@odata.type": "#microsoft.graph.groupAssignmentTarget", "groupId": fmt.Sprintf("00000000-0000-4000-8000-%012x", h%1000),
			},
		}
	case "devicemanagementscripts", "deviceshellscripts", "devicecustomattributeshellscripts":
		m := map[string]any{"fileName": "script.ps1", "runAsAccount": "system"}
		if !inList {
			m["scriptContent"] = script
		}
		return m
	case "devicehealthscripts":
		m := map[string]any{"publisher": "Contoso", "isGlobalScript": false}
		if !inList {
			m["detectionScriptContent"], m["remediationScriptContent"] = script, script
		}
		return m
	case "deviceconfigurations":
		return map[string]any{
			"@odata.type": "#microsoft.graph.windows10CustomConfiguration", "version": 1,
			"omaSettings": []any{map[string]any{
				"@odata.type": "#microsoft.graph.omaSettingString", "displayName": "Setting", "omaUri": "./Device/Vendor/Simulated",
				"value": "****", "isEncrypted": true, "secretReferenceValueId": fmt.Sprintf("secret-%x", h),
			}},
		}
	case "policies":
		return map[string]any{
			"state": []string{"enabled", "disabled", "enabledForReportingButNotEnforced"}[h%3],
			"conditions": map[string]any{"users": map[string]any{"includeUsers": []string{"All"}, "excludeUsers": []string{}},
				"clientAppTypes": []string{"all"}},
			"grantControls": map[string]any{"operator": "OR", "builtInControls": []string{"mfa"}},
		}
	case "groups":
		return map[string]any{"securityEnabled": true, "mailEnabled": false, "mailNickname": fmt.Sprintf("group-%x", h), "groupTypes": []string{}}
	case "applications", "serviceprincipals":
		return map[string]any{
			"appId": fmt.Sprintf("%08x-0000-4000-8000-%012x", h>>32, h&0xffffffffffff), "signInAudience": "AzureADMyOrg",
			"passwordCredentials": []any{map[string]any{"keyId": fmt.Sprintf("%x", h), "hint": "SIM", "displayName": "secret"}},
		}
	}
	return nil
}

// title makes `conditionalAccessPolicies` into `Conditional access policies`.
func title(name string) string {
	var b strings.Builder
	for i, r := range name {
		switch {
		case i == 0:
			b.WriteString(strings.ToUpper(string(r)))
		case r >= 'A' && r <= 'Z':
			b.WriteString(" " + strings.ToLower(string(r)))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
