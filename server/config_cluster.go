package main

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy.internal/internal/tenant"
)

// journalConfig says where syncs and their events are kept, and how long.
type journalConfig struct {
	// Retention is how long syncs and their events are kept.
	Retention time.Duration `yaml:"retention" default:"2160h"`
	// Cluster is a NATS cluster that keeps them; nil: data_dir does.
	Cluster *clusterConfig `yaml:"cluster"`
}

// clusterConfig is a NATS cluster that others operate.
type clusterConfig struct {
	// Servers are addresses of its nodes.
	Servers []string `yaml:"servers" required:"[nats1.example:4222, nats2.example:4222, nats3.example:4222]"`
	// CredentialsFile has a NATS user's JWT and key, as `nsc` writes them.
	CredentialsFile string `yaml:"credentials_file" path:"file"`
	// User and Password are the other way to sign in.
	User     string         `yaml:"user"`
	Password *tenant.Secret `yaml:"password"`
	// TLS secures the connection; nil: as the addresses and the servers want.
	TLS *clusterTLSConfig `yaml:"tls"`
	// Replicas is how many nodes keep each message.
	Replicas int `yaml:"replicas" default:"3"`
	// Prefix begins the names of the streams and subjects.
	Prefix string `yaml:"prefix" default:"understudy"`
}

// clusterTLSConfig is whom to believe, and who we are.
type clusterTLSConfig struct {
	// CAFile has the certificates, in PEM form, that have to have signed those of the
	// servers; empty: the system's.
	CAFile string `yaml:"ca_file" path:"file"`
	// CertificateFile and KeyFile are the certificate of this client.
	CertificateFile string `yaml:"certificate_file" path:"file"`
	KeyFile         string `yaml:"key_file" path:"file"`
}

const (
	// shortestRetention is how long a request_id has to be remembered.
	shortestRetention = 24 * time.Hour
	// shortestLease leaves a process three signs of life, and a pause of the network.
	shortestLease = 5 * time.Second
)

var (
	// replicaPattern is what may name a replica: what host names consist of.
	replicaPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	// prefixPattern is what may begin the name of a stream and be part of a subject.
	prefixPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)
)

// checkReplicas adds what is wrong with how several replicas work together.
func (d *decoder) checkReplicas(c *config) {
	if c.Journal.Retention < shortestRetention {
		d.claim("journal.retention", "is shorter than a day, for which a request_id has to be remembered. Write `24h` or more.")
	}
	if c.Lease < shortestLease {
		d.claim("lease", "is so short that a pause of the network would end it. Write `5s` or more.")
	}
	if c.Replica != "" && !replicaPattern.MatchString(c.Replica) {
		d.claim("replica", "%s is not a name. Write letters, digits, `.`, `_` and `-`, at most 63, and a letter or digit at either end.", shown(c.Replica))
	}
	if c.Limits.ConcurrentSyncsTotal < 0 {
		d.claim("limits.concurrent_syncs_total", "is negative. Write `0` for no limit.")
	}
	if c.Journal.Cluster == nil {
		if c.DataDirShared {
			d.claim("data_dir_shared", "the journal in data_dir can only be used by one process. Configure `journal.cluster`, or leave `data_dir_shared` out.")
		}
		return
	}
	d.checkCluster(c, c.Journal.Cluster)
	if c.DataDirShared {
		return
	}
	for i := range c.Tenants {
		if c.Tenants[i].Repository.Remote == "" {
			d.claim(fmt.Sprintf("tenants[%d].repository.remote", i), "is missing, and with `journal.cluster` any replica may sync the tenant: "+
				"each would have a backup of its own. Write the remote that all push to, or `data_dir_shared: true` if all replicas have one data_dir.")
		}
	}
	for _, key := range []struct {
		name       string
		configured bool
	}{
		{"encryption", c.Keys.Encryption != nil},
		{"fingerprint", c.Keys.Fingerprint != nil},
	} {
		if !key.configured {
			d.claim("keys."+key.name, "is missing, and with `journal.cluster` each replica would make one of its own. "+
				"Write `{file: PATH}` or `{env: NAME}` with the same key for all, or `data_dir_shared: true` if all replicas have one data_dir.")
		}
	}
}

func (d *decoder) checkCluster(c *config, own *clusterConfig) {
	const key = "journal.cluster"
	if len(own.Servers) == 0 {
		d.claim(key+".servers", "is empty. Write the addresses of the nodes, for example `[nats1.example:4222, nats2.example:4222]`.")
	}
	for i, address := range own.Servers {
		d.checkClusterServer(c, fmt.Sprintf("%s.servers[%d]", key, i), address, own.TLS != nil)
	}
	switch {
	case own.CredentialsFile != "" && (own.User != "" || own.Password != nil):
		d.claim(key+".user", "is a second way to sign in. Write either `credentials_file`, or `user` and `password`.")
	case (own.User == "") != (own.Password == nil):
		d.claim(key+".user", "is only a part of a way to sign in. Write both `user` and `password`.")
	}
	if own.TLS != nil && (own.TLS.CertificateFile == "") != (own.TLS.KeyFile == "") {
		d.claim(key+".tls", "has only a part of a certificate. Write both `certificate_file` and `key_file`.")
	}
	if !slices.Contains([]int{1, 3, 5}, own.Replicas) {
		d.claim(key+".replicas", "is not a number of nodes of which a majority is left when one fails. Write `3` or `5`; `1` to try things.")
	}
	if !prefixPattern.MatchString(own.Prefix) {
		d.claim(key+".prefix", "%s cannot begin the name of a stream. Write small letters, digits, `_` and `-`, at most 32, the first a letter or digit.", shown(own.Prefix))
	}
}

// checkClusterServer adds what is wrong with the address of a node. It is not
// repeated: it may hold a password.
func (d *decoder) checkClusterServer(c *config, key, address string, secured bool) {
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		scheme, rest = "nats", address
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err == nil && u.User != nil {
		d.claim(key, "has a user name or password in it. Write the address without it, and `credentials_file`, or `user` and `password`, beside `servers`.")
		return
	}
	if err != nil || scheme != "nats" && scheme != "tls" || u.Hostname() == "" || !isPort(u.Port()) || strings.Trim(u.Path, "/") != "" ||
		strings.ContainsAny(rest, "?#") {
		d.claim(key, "is not the address of a node. Write `host:port`, `nats://host:port` or `tls://host:port`. Without a port it is 4222.")
		return
	}
	if scheme == "nats" && !secured && !isLoopback(u.Hostname()) {
		c.warnings = append(c.warnings, configProblem{
			d.placeOf(key), d.file, key,
			"goes over the network without TLS, unless the server asks for it: who listens there can read every event. Write `tls://`, or `journal.cluster.tls`.",
		}.String())
	}
}

// isPort says whether a text is a port, or none.
func isPort(text string) bool {
	number, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && number > 0
}

// metricsConfig says where metrics are.
type metricsConfig struct {
	// Listen is the address; empty: nowhere.
	Listen string `yaml:"listen" default:""`
}

// checkMetrics adds what is wrong with the address of the metrics. They name the
// tenants, and so are not for everybody.
func (d *decoder) checkMetrics(c *config) {
	address := c.Metrics.Listen
	if address == "" {
		return
	}
	host, port, err := net.SplitHostPort(address)
	if number, numberErr := strconv.ParseUint(port, 10, 16); err != nil || numberErr != nil || port != strconv.FormatUint(number, 10) {
		d.claim("metrics.listen", "%s is not an address. Write host and port, for example `127.0.0.1:9464`.", shown(address))
		return
	}
	if c.GRPC.TLS == nil && !isLoopback(host) {
		d.claim("metrics.listen", "%s can be reached from outside, and without grpc.tls everybody could read along. "+
			"Write `grpc.tls`, which then is for the metrics too, or a loopback address, for example `127.0.0.1:%s`.", shown(address), port)
	}
	if address == c.GRPC.Listen && port != "0" {
		d.claim("metrics.listen", "is the address of grpc.listen. Write another port, for example `127.0.0.1:9464`.")
	}
}
