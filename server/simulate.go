package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"understudy.internal/internal/simulator"
)

// simulateCommand runs a simulated tenant until it is interrupted.
type simulateCommand struct {
	Listen       string         `default:"127.0.0.1:9443" placeholder:"ADDRESS" help:"Where Entra and Graph listen (HTTPS): a loopback address; port 0 takes a free one."`
	AdminListen  string         `default:"127.0.0.1:9444" placeholder:"ADDRESS" help:"Where the admin port listens (HTTP)."`
	Directory    string         `default:"lab" type:"path" placeholder:"FOLDER" help:"Where ca.pem is written."`
	Scenario     []string       `sep:"none" placeholder:"NAME[:OPTION=VALUE,…]" help:"What goes wrong from the start. Repeat it for more. --scenarios lists them."`
	Scenarios    bool           `help:"List the scenarios and their options, and exit."`
	Seed         uint64         `default:"1" help:"The same seed gives the same tenant."`
	Items        int            `default:"4" help:"How many items a collection has."`
	Children     int            `default:"2" help:"How many items a collection below an item has at most."`
	Count        map[string]int `mapsep:"," placeholder:"PATH=N" help:"How many items one collection has: /v1.0/groups=2000."`
	PageSize     int            `default:"100" help:"How many items a page has."`
	Latency      time.Duration  `default:"0" help:"How long Graph thinks about each answer."`
	Hostile      bool           `help:"Add items with hostile names and ids: ../../x, CON, 1,000 characters."`
	Limits       bool           `help:"Throttle as Graph documents for Conditional Access, the directory and Intune."`
	NotAvailable []string       `placeholder:"PATH" help:"What the tenant does not have: /deviceManagement."`
	Certificate  []string       `type:"existingfile" placeholder:"FILE" help:"A certificate (PEM) that may sign in in place of the client secret."`
}

// Help returns examples.
func (*simulateCommand) Help() string {
	return `Runs a Microsoft 365 tenant to try things with: Entra ID and Graph, over HTTPS with a certificate authority of its own. It ends with Ctrl-C.

Examples:

  understudy simulate
  understudy simulate --scenario conditional-access-block
  understudy simulate --scenario type-fails:path=/v1.0/groups,status=500 --scenario throttled
  understudy simulate --count /v1.0/groups=2000 --latency 50ms
  understudy simulate --scenarios`
}

// Run serves until ctx is done.
func (c *simulateCommand) Run(ctx context.Context, std streams) error {
	if c.Scenarios {
		return printScenarios(std)
	}
	var list []simulator.Scenario
	for _, text := range c.Scenario {
		sc, err := simulator.ParseScenario(text)
		if err != nil {
			return &exitError{code: exitUsage, message: err.Error() + ". Try: understudy simulate --scenarios"}
		}
		list = append(list, sc)
	}
	certificates, err := readCertificates(c.Certificate)
	if err != nil {
		return &exitError{code: exitUsage, message: err.Error()}
	}
	tenant, err := simulator.New(simulator.Config{
		Listen: c.Listen, AdminListen: c.AdminListen, Directory: c.Directory, Seed: c.Seed, Items: c.Items, Children: c.Children,
		Counts: c.Count, PageSize: c.PageSize, Latency: c.Latency, Hostile: c.Hostile, Limits: c.Limits,
		NotAvailable: c.NotAvailable, Certificates: certificates,
		Logger: slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return &exitError{code: exitUsage, message: err.Error()}
	}
	defer tenant.Close()
	if err := tenant.SetScenarios(list...); err != nil {
		return err
	}
	if err := tenant.Start(ctx); err != nil {
		return takenAddress(err, "choose other addresses with --listen and --admin-listen")
	}
	if err := c.describe(std, tenant); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func printScenarios(std streams) error {
	for _, info := range simulator.Scenarios() {
		options := ""
		for _, option := range info.Options {
			options += " " + option
		}
		if _, err := fmt.Fprintf(std.out, "%s\n    %s\n    of: %s\n", info.Name, info.Description, info.Of); err != nil {
			return err
		}
		if options == "" {
			continue
		}
		if _, err := fmt.Fprintf(std.out, "    options:%s\n", options); err != nil {
			return err
		}
	}
	return nil
}

// readCertificates reads the certificates of PEM files.
func readCertificates(files []string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading --certificate: %w", err)
		}
		found := len(all)
		for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("--certificate %s: %w", file, err)
			}
			all = append(all, certificate)
		}
		if len(all) == found {
			return nil, errors.New("--certificate " + file + " has no certificate in PEM form")
		}
	}
	return all, nil
}

var simulateText = template.Must(template.New("simulate").Parse(`A simulated Microsoft 365 tenant is running. Everything in it is made up. Ctrl-C ends it.

  Entra and Graph   {{.URL}}
  CA certificate    {{.CA}}
  Directory id      {{.DirectoryID}}
  Client id         {{.ClientID}}
  Client secret     {{.ClientSecret}}
  User              {{.Username}}
  Password          {{.Password}}
  Device login      {{.URL}}/devicelogin
  Admin port        {{.Admin}}

What it is in the configuration of understudy:

  clouds:
    lab: {authority: {{.URL}}, graph: {{.URL}}, ca_file: {{.CA}}}

Make something go wrong, and well again (understudy simulate --scenarios lists what):

  curl -X PUT {{.Admin}}/scenario -d '{"name":"conditional-access-block"}'
  curl -X PUT {{.Admin}}/scenario -d '[{"name":"type-fails","path":"/v1.0/groups","status":500}]'
  curl -X PUT {{.Admin}}/scenario -d '[]'
  curl {{.Admin}}/scenario

Change the tenant, sign in as the person at the page, see what was asked:

  curl {{.Admin}}/items -d '{"path":"/v1.0/groups","action":"change","item":0}'
  curl {{.Admin}}/items -d '{"path":"/v1.0/groups","action":"remove","item":1}'
  curl {{.Admin}}/items -d '{"path":"/v1.0/groups","action":"count","count":50}'
  curl {{.Admin}}/devicelogin -d '{"answer":"complete"}'
  curl {{.Admin}}/stats
  curl {{.Admin}}/requests
  curl -X POST {{.Admin}}/reset
`))

// describe says how to use the tenant.
func (c *simulateCommand) describe(std streams, tenant *simulator.Simulator) error {
	return simulateText.Execute(std.out, struct {
		URL, Admin, CA string
		simulator.Account
	}{tenant.URL(), tenant.AdminURL(), filepath.Join(c.Directory, "ca.pem"), tenant.Account()})
}
