package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// defaultAddress is where `understudy serve` listens unless it is told otherwise;
// the default of [connectionFlags].Address.
const defaultAddress = "127.0.0.1:8443"

// connectionFlags say how a client command reaches the server.
type connectionFlags struct {
	Address     []string `default:"127.0.0.1:8443" env:"UNDERSTUDY_ADDRESS" placeholder:"HOST:PORT" help:"The address of the server (${default}). Of several replicas, separated with commas, the first that answers is called, and the next when it goes."`
	TLS         bool     `name:"tls" help:"Use TLS. Without it only a server on this machine is called."`
	CAFile      string   `name:"ca-file" type:"existingfile" placeholder:"FILE" help:"Use TLS, and trust the certificate authorities in this file (PEM) instead of the system's."`
	Certificate string   `type:"existingfile" and:"certificate" placeholder:"FILE" help:"Use TLS, and show this client certificate (PEM)."`
	Key         string   `type:"existingfile" and:"certificate" placeholder:"FILE" help:"The key of the client certificate (PEM)."`
}

// dial returns a connection. It does not wait for a server.
func (c *connectionFlags) dial() (*grpc.ClientConn, error) {
	security, err := c.credentials()
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		grpc.WithUserAgent("understudy/" + version),
		// A server that vanished is noticed while a stream is quiet.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if len(c.Address) == 1 {
		return grpc.NewClient(c.Address[0], options...)
	}
	replicas := manual.NewBuilderWithScheme("replicas")
	var state resolver.State
	for _, address := range c.Address {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("--address: %s is not HOST:PORT", address)
		}
		one := resolver.Endpoint{Addresses: []resolver.Address{{Addr: address, ServerName: host}}}
		state.Endpoints = append(state.Endpoints, one)
	}
	replicas.InitialState(state)
	return grpc.NewClient(replicas.Scheme()+":///", append(options, grpc.WithResolvers(replicas))...)
}

func (c *connectionFlags) credentials() (credentials.TransportCredentials, error) {
	if !c.TLS && c.CAFile == "" && c.Certificate == "" {
		if i := slices.IndexFunc(c.Address, isRemote); i >= 0 {
			return nil, fmt.Errorf("%s is not on this machine, and sign-in codes would travel in plain text: use --tls or --ca-file", c.Address[i])
		}
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("--ca-file " + c.CAFile + " has no certificate in PEM form")
		}
	}
	if c.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("reading --certificate and --key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}

// flags are the flags that reach the same server again, for commands that are
// shown to people.
func (c *connectionFlags) flags() string {
	var b strings.Builder
	if address := strings.Join(c.Address, ","); address != defaultAddress {
		b.WriteString(" --address " + address)
	}
	for _, flag := range []struct{ name, value string }{
		{"ca-file", c.CAFile}, {"certificate", c.Certificate}, {"key", c.Key},
	} {
		if flag.value != "" {
			b.WriteString(" --" + flag.name + " " + flag.value)
		}
	}
	if c.TLS {
		b.WriteString(" --tls")
	}
	return b.String()
}

// isRemote says whether an address is not on this machine.
func isRemote(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return false
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}
