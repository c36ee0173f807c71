package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Cloud is where a tenant's directory and its Graph are.
// https://learn.microsoft.com/graph/deployments
type Cloud struct {
	// Name is what a tenant's definition says.
	Name string
	// Authority and Graph are base addresses without a slash at the end.
	Authority, Graph string
	// CAFile has the certificates to trust beside those of the system.
	CAFile string
}

// CloudByName returns a cloud of Microsoft.
func CloudByName(name string) (Cloud, bool) {
	for _, c := range []Cloud{
		{Name: "global", Authority: "https://login.microsoftonline.com", Graph: "https://graph.microsoft.com"},
		{Name: "us-gov-high", Authority: "https://login.microsoftonline.us", Graph: "https://graph.microsoft.us"},
		{Name: "us-gov-dod", Authority: "https://login.microsoftonline.us", Graph: "https://dod-graph.microsoft.us"},
		{Name: "china", Authority: "https://login.chinacloudapi.cn", Graph: "https://microsoftgraph.chinacloudapi.cn"},
	} {
		if c.Name == name {
			return c, true
		}
	}
	return Cloud{}, false
}

// Check says what is wrong with the addresses of a cloud.
func (c Cloud) Check() error {
	if err := checkAddress("authority", c.Authority); err != nil {
		return err
	}
	if err := checkAddress("graph", c.Graph); err != nil {
		return err
	}
	if strings.Contains(strings.ToLower(c.Authority), "token") {
		// MSAL finds the address for device codes by replacing the word.
		return errors.New("authority must not have the word \"token\" in its host: MSAL cannot use it")
	}
	return nil
}

func checkAddress(field, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || address != "https://"+u.Host {
		return fmt.Errorf("%s must be an address like https://login.example.com, without a path or a slash at its end", field)
	}
	return nil
}

// aliases are other names that Microsoft gives the hosts of its authorities in
// their metadata.
// https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
var aliases = map[string][]string{
	"login.microsoftonline.com": {"login.microsoft.com", "login.windows.net", "sts.windows.net"},
	"login.microsoftonline.us":  {"login.usgovcloudapi.net"},
	"login.chinacloudapi.cn":    {"login.partner.microsoftonline.cn"},
}

// signInHosts returns the hosts that may be asked for tokens. A password, secret or
// refresh token goes nowhere else.
func (c Cloud) signInHosts() []string {
	host := strings.TrimSuffix(strings.ToLower(strings.TrimPrefix(c.Authority, "https://")), ":443")
	return append([]string{host}, aliases[host]...)
}

// NewHTTPClient returns a client for the hosts of a cloud. It follows no redirect:
// neither Entra nor Graph sends one that should get a token.
func NewHTTPClient(c Cloud) (*http.Client, error) {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 100 * time.Second,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if c.CAFile != "" {
		roots, err := Roots(c.CAFile)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// Roots returns the certificates to trust: those of the system, and those in a file, in
// PEM form.
func Roots(caFile string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("reading ca_file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file %s has no certificate in PEM form", caFile)
	}
	return roots, nil
}
