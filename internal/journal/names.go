package journal

import "strings"

// names are the names of the streams and of the subjects in them.
type names struct {
	// syncs, events and keys are the streams.
	syncs, events, keys string
	// prefix begins every subject.
	prefix string
}

// embeddedNames are those of an engine that nobody else uses.
var embeddedNames = names{syncs: "SYNCS", events: "EVENTS", keys: "KEYS", prefix: "understudy"}

// clusterNames are those of an installation on a shared engine.
func clusterNames(prefix string) names {
	upper := strings.ToUpper(prefix)
	return names{syncs: upper + "_SYNCS", events: upper + "_EVENTS", keys: upper + "_KEYS", prefix: prefix}
}

// record is the subject of a sync's record; of all records of a tenant where the id
// is `*`.
func (n names) record(key string) string { return n.prefix + ".syncs." + key }

// event is the subject of a sync's events.
func (n names) event(key string) string { return n.prefix + ".events." + key }

// value is the subject of a value of a [Store].
func (n names) value(key string) string { return n.prefix + ".keys." + key }

// shown is the subject of what is not stored: what those who watch a sync see.
func (n names) shown(key string) string { return n.prefix + ".shown." + key }

// alive is the subject by which the workers hear of each other.
func (n names) alive() string { return n.prefix + ".alive" }

// key is the part of a subject that names a sync: `{tenant}.{id}`.
func key(name string) string {
	tenant, id, _ := strings.Cut(strings.TrimPrefix(name, "tenants/"), "/syncs/")
	return tenant + "." + id
}

// tenantKey is the key of every sync of a tenant.
func tenantKey(tenant string) string { return strings.TrimPrefix(tenant, "tenants/") + ".*" }

// nameOf is the reverse of key.
func nameOf(key string) string {
	tenant, id, _ := strings.Cut(key, ".")
	return "tenants/" + tenant + "/syncs/" + id
}
