package tenant

import (
	"net/url"
	"regexp"
	"strings"
)

// remote is the address of a Git repository, in its parts.
type remote struct {
	ssh                    bool
	user, host, port, path string
}

// scpForm is `user@host:path`, the short form of an ssh address.
var scpForm = regexp.MustCompile(`^([A-Za-z0-9._-]+)@([A-Za-z0-9][A-Za-z0-9.-]*):([^/:\s\\][^:\s\\]*)$`)

// parseRemote takes the address of a remote apart, or says what is wrong with it
// without repeating it: it may hold a password.
func parseRemote(address string) (remote, string) {
	if m := scpForm.FindStringSubmatch(address); m != nil && !strings.Contains(address, "://") {
		return remote{ssh: true, user: m[1], host: strings.ToLower(m[2]), path: m[3]}, ""
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "ssh" || u.Hostname() == "" || strings.Trim(u.Path, "/") == "" ||
		strings.ContainsAny(u.Path, "\x00\n") {
		return remote{}, "is not the address of a repository. Write `https://host/path.git`, `ssh://git@host/path.git` or `git@host:path.git`."
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return remote{}, "has a query or a fragment. Write the address without what begins at `?` or `#`."
	}
	if _, password := u.User.Password(); password || u.User != nil && u.Scheme == "https" {
		return remote{}, "has a user name or password in it. Write the address without it, and `token: {env: NAME}` (with `username`, if need be) beside it."
	}
	return remote{
		ssh: u.Scheme == "ssh", user: u.User.Username(), host: strings.ToLower(u.Hostname()), port: u.Port(), path: u.Path,
	}, ""
}

// place identifies the branch that is pushed to, whatever way its address is
// written in; empty without a remote.
func (r *Repository) place() string {
	parsed, problem := parseRemote(r.Remote)
	if problem != "" {
		return ""
	}
	port := parsed.port
	if port == "443" && !parsed.ssh || port == "22" && parsed.ssh {
		port = ""
	}
	path := strings.TrimSuffix(strings.Trim(parsed.path, "/"), ".git")
	return strings.Join([]string{parsed.host, port, path, r.Branch}, "\n")
}

func (c *checker) repository(r *Repository) {
	if !isBranch(r.Branch) {
		c.add("repository.branch", "%s is not a name for a branch. Write one that `git check-ref-format --branch` accepts.", quoted(r.Branch))
	}
	if r.Remote == "" {
		if r.Token != nil || r.SSHKey != nil || r.Username != "" {
			c.add("repository", "has a credential and no remote. Write `remote`, or leave the credential out.")
		}
		return
	}
	if r.Username != "" && r.Token == nil {
		c.add("repository.username", "goes with a token, and there is none. Write `token: {env: NAME}`, or leave it out.")
	}
	parsed, problem := parseRemote(r.Remote)
	switch {
	case problem != "":
		c.add("repository.remote", "%s", problem)
	case parsed.ssh && r.Token != nil:
		c.add("repository.token", "is for https remotes, and this is an ssh remote. Write `ssh_key: {file: PATH}` instead, or nothing for the SSH agent.")
	case !parsed.ssh && r.SSHKey != nil:
		c.add("repository.ssh_key", "is for ssh remotes, and this is an https remote. Write `token: {env: NAME}` instead.")
	case parsed.ssh && r.CAFile != "":
		c.add("repository.ca_file", "is for https remotes, and this is an ssh remote. Write `known_hosts_file` instead.")
	case !parsed.ssh && r.KnownHostsFile != "":
		c.add("repository.known_hosts_file", "is for ssh remotes, and this is an https remote. Write `ca_file` instead, if its certificate is not of an authority that the system knows.")
	}
}

// isBranch follows git-check-ref-format(1).
func isBranch(name string) bool {
	if name == "" || name == "@" || name == "HEAD" || strings.HasPrefix(name, "-") || strings.HasSuffix(name, ".") || len(name) > 200 {
		return false
	}
	for _, part := range strings.Split(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	if strings.Contains(name, "..") || strings.Contains(name, "@{") {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r)
	})
}
