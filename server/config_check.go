package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"understudy.internal/internal/catalog"
	"understudy.internal/internal/identity"
	"understudy.internal/internal/tenant"
)

// loadCatalog returns the catalog, read once.
var loadCatalog = sync.OnceValues(catalog.Load)

// builtInClouds are the names of Microsoft's clouds.
var builtInClouds = []string{"global", "us-gov-high", "us-gov-dod", "china"}

// claim adds a problem that a check found, unless the same place is known to be
// wrong already.
func (d *decoder) claim(key, format string, v ...any) {
	if !d.isReported(key) {
		d.wrong(key, format, v...)
	}
}

// check adds what is wrong with the values of a configuration. It fails when the
// catalog does.
func (d *decoder) check(c *config) error {
	d.checkGRPC(&c.GRPC)
	if c.DataDir == "" {
		d.claim("data_dir", "is empty. Write a folder, for example `./data`.")
	}
	if c.HelpBaseURL != "" && !isBaseURL(c.HelpBaseURL) {
		d.claim("help_base_url", "is not an address. Write one like `https://understudy.example/help`, without `?` and `#`, or leave it empty.")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Clouds)) {
		d.checkCloud(name, c.Clouds[name])
	}
	d.checkReplicas(c)
	d.checkMetrics(c)
	d.checkPositive("limits.concurrent_syncs", int64(c.Limits.ConcurrentSyncs))
	d.checkPositive("limits.queued_syncs", int64(c.Limits.QueuedSyncs))
	d.checkPositive("limits.sync_timeout", int64(c.Limits.SyncTimeout))
	if err := d.checkRequestLimits(c.Limits.Requests); err != nil {
		return err
	}
	return d.checkTenants(c)
}

func (d *decoder) checkRequestLimits(limits map[string]requestLimit) error {
	known, err := loadCatalog()
	if err != nil {
		return fmt.Errorf("loading the catalog: %w", err)
	}
	names := map[string]bool{}
	for _, t := range known.Types() {
		names[t.GateName()] = true
	}
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		key := childKey("limits.requests", name)
		if !names[name] {
			d.claim(key, "no limit is called so. Write one of %s.", strings.Join(slices.Sorted(maps.Keys(names)), ", "))
		}
		d.checkPositive(key+".requests", int64(limits[name].Requests))
		d.checkPositive(key+".per", int64(limits[name].Per))
	}
	return nil
}

func (d *decoder) checkPositive(key string, value int64) {
	if value <= 0 {
		d.claim(key, "is not positive. Write a greater one.")
	}
}

func (d *decoder) checkGRPC(g *grpcConfig) {
	d.checkPositive("grpc.drain_timeout", int64(g.DrainTimeout))
	if g.DrainDelay < 0 {
		d.claim("grpc.drain_delay", "is negative. Write `0s` or more.")
	}
	host, port, err := net.SplitHostPort(g.Listen)
	if number, numberErr := strconv.ParseUint(port, 10, 16); err != nil || numberErr != nil || port != strconv.FormatUint(number, 10) {
		d.claim("grpc.listen", "%s is not an address. Write host and port, for example `127.0.0.1:8443` or `[::1]:8443`.", shown(g.Listen))
		return
	}
	if g.TLS == nil && !isLoopback(host) {
		d.claim("grpc.listen", "%s can be reached from outside, and without grpc.tls everybody could read along. "+
			"Write `grpc.tls`, or a loopback address, for example `127.0.0.1:%s`.", shown(g.Listen), port)
	}
}

// isLoopback says whether only this machine can reach a host's address.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

func isBaseURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" &&
		u.User == nil && !strings.ContainsAny(text, "?#")
}

func (d *decoder) checkCloud(name string, own cloudConfig) {
	key := childKey("clouds", name)
	if slices.Contains(builtInClouds, name) {
		d.claim(key, "is the name of a cloud of Microsoft. Write another name.")
		return
	}
	// One address at a time, each beside one that is known to be right.
	cloud, right := own.identity(name), identity.Cloud{Authority: "https://login.example.com", Graph: "https://graph.example.com"}
	for _, one := range []struct {
		field, address string
		cloud          identity.Cloud
	}{
		{"authority", own.Authority, identity.Cloud{Authority: cloud.Authority, Graph: right.Graph}},
		{"graph", own.Graph, identity.Cloud{Authority: right.Authority, Graph: cloud.Graph}},
	} {
		if one.address == "" {
			continue // missing, which is known
		}
		if !isBaseURL(one.address) || !strings.HasPrefix(one.address, "https://") {
			d.claim(childKey(key, one.field), "is not an https address. Write one like `https://%s.example.com`.", one.field)
		} else if err := one.cloud.Check(); err != nil {
			d.claim(childKey(key, one.field), "%s.", strings.TrimPrefix(err.Error(), one.field+" "))
		}
	}
}

func (d *decoder) checkTenants(c *config) error {
	if len(c.Tenants) == 0 {
		d.claim("tenants", "is empty. Write at least one tenant, as in docs/configuration.md.")
	}
	for _, p := range tenant.CheckAll(c.Tenants) {
		d.claim("tenants"+p.Key, "%s", p.Detail)
	}
	for i := range c.Tenants {
		key := fmt.Sprintf("tenants[%d]", i)
		d.checkCloudName(key+".cloud", c, c.Tenants[i].Cloud)
		d.checkRecipients(key+".secrets.recipients", c.Tenants[i].Secrets.Recipients)
		if err := d.checkSelection(key, &c.Tenants[i]); err != nil {
			return err
		}
	}
	for _, p := range tenant.Notes(c.Tenants) {
		key := "tenants" + p.Key
		c.warnings = append(c.warnings, configProblem{d.placeOf(key), d.file, key, p.Detail}.String())
	}
	return nil
}

func (d *decoder) checkCloudName(key string, c *config, name string) {
	names := slices.Concat(builtInClouds, slices.Sorted(maps.Keys(c.Clouds)))
	if _, own := c.Clouds[name]; !own && !slices.Contains(builtInClouds, name) {
		d.claim(key, "no cloud is called %s. Write one of %s, or define it in `clouds`.", shown(name), strings.Join(names, ", "))
	}
}

// checkFiles adds the files that the configuration names and that cannot be read.
func (d *decoder) checkFiles() {
	for _, r := range d.files {
		file, err := os.Open(r.path)
		if err != nil {
			d.claim(r.key, "%s cannot be read: %s. Write the path of a file that the service can read.", r.path, cause(err))
			continue
		}
		file.Close()
	}
}

// cause returns a file error without its path.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// secretWarnings returns a line for each secret that cannot be read now.
func (d *decoder) secretWarnings() []string {
	var lines []string
	for _, r := range d.secrets {
		if strings.HasPrefix(r.key, "keys.") {
			continue // without them the service does not start
		}
		if _, err := r.secret.Read(); err != nil {
			p := configProblem{d.placeOf(r.key), d.file, r.key, err.Error() + ". What needs it fails until it is there."}
			lines = append(lines, p.String())
		}
	}
	return lines
}
