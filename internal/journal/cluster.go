package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Cluster says which NATS cluster several processes share as their journal, and how
// they come in. The platform team operates it: file storage, at least three servers,
// `sync_interval: always`.
type Cluster struct {
	// Servers are the addresses: `nats://host:4222`, or `tls://host:4222`. One is
	// enough to find the others. They hold no user and no password.
	Servers []string
	// CredentialsFile is a file of NATS credentials (a JWT and its key).
	CredentialsFile string
	// NkeyFile is a file with the seed of an nkey.
	NkeyFile string
	// User and Password are for servers that know neither of the two.
	User, Password string
	// CAFile has the certificates that the servers' are verified by; the system's
	// when empty. CertFile and KeyFile are this process's own.
	CAFile, CertFile, KeyFile string
	// Replicas is on how many servers everything is stored; 3.
	Replicas int
	// Prefix begins the names of the streams and subjects, so that installations can
	// share a cluster: `understudy`.
	Prefix string
}

const (
	// oldestMajor and oldestMinor are the first version that stores several events all
	// or none.
	oldestMajor, oldestMinor = 2, 12
	// clusterPatience is how long it is tried to store something: a leader that was
	// killed is replaced within 8 s.
	clusterPatience = 20 * time.Second
	// connectPatience is how long a cluster is waited for at the start.
	connectPatience = 30 * time.Second
)

var validPrefix = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// complete puts the defaults in and checks what can be checked without the cluster.
func (c Cluster) complete() (*Cluster, error) {
	if len(c.Servers) == 0 {
		return nil, errors.New("the journal's cluster has no servers: name at least one, such as nats://host:4222")
	}
	for i, server := range c.Servers {
		u, err := url.Parse(server)
		if err != nil || u.Host == "" || (u.Scheme != "nats" && u.Scheme != "tls") {
			return nil, fmt.Errorf("server %d of the journal's cluster is no address such as nats://host:4222 or tls://host:4222", i+1)
		}
		if u.User != nil {
			return nil, fmt.Errorf("the address of %s holds a user: give it as user and password, or as credentials, instead", u.Host)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, errors.New("the journal's cluster has a certificate without a key, or the other way round: name both files")
	}
	if c.Replicas == 0 {
		c.Replicas = 3
	}
	if c.Replicas < 1 || c.Replicas > 5 || c.Replicas%2 == 0 {
		return nil, fmt.Errorf("%d replicas of the journal's streams: there can be 1, 3 or 5", c.Replicas)
	}
	if c.Prefix == "" {
		c.Prefix = "understudy"
	}
	if !validPrefix.MatchString(c.Prefix) {
		return nil, fmt.Errorf("the prefix %q of the journal's streams may have small letters, digits, - and _, and at most 32 of them", c.Prefix)
	}
	return &c, nil
}

// connect connects to the cluster, for as long as the process lives: a connection
// that is lost is made anew, for ever.
func (c *Cluster) connect(ctx context.Context, worker string, logger *slog.Logger) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Name("understudy " + worker),
		nats.Timeout(5 * time.Second),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.PingInterval(3 * time.Second),
		nats.MaxPingsOutstanding(2),
		// Nothing waits in this process until there is a connection: what could not
		// be sent is known not to be stored.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("the connection to the journal's cluster is lost, and is made anew", "error", err)
			}
		}),
		nats.ReconnectHandler(func(conn *nats.Conn) {
			logger.Info("connected to the journal's cluster again", "server", conn.ConnectedServerName(), "version", conn.ConnectedServerVersion())
		}),
		nats.ClosedHandler(func(conn *nats.Conn) {
			if err := conn.LastError(); err != nil {
				logger.Error("the connection to the journal's cluster was closed; restart this process", "error", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, subscription *nats.Subscription, err error) {
			subject := ""
			if subscription != nil {
				subject = subscription.Subject
			}
			logger.Warn("the journal's cluster reports an error", "subject", subject, "error", err)
		}),
	}
	if c.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(c.CredentialsFile))
	}
	if c.NkeyFile != "" {
		nkey, err := nats.NkeyOptionFromSeed(c.NkeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading the seed of the nkey for the journal's cluster from %s: it cannot be used", c.NkeyFile)
		}
		options = append(options, nkey)
	}
	if c.User != "" {
		options = append(options, nats.UserInfo(c.User, c.Password))
	}
	if c.CAFile != "" {
		options = append(options, nats.RootCAs(c.CAFile))
	}
	if c.CertFile != "" {
		options = append(options, nats.ClientCert(c.CertFile, c.KeyFile))
	}
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	for {
		conn, err := nats.Connect(strings.Join(c.Servers, ","), options...)
		if err == nil {
			return conn, nil
		}
		// Only what time can heal is waited for.
		if !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, nats.ErrTimeout) && !errors.As(err, new(*net.OpError)) {
			return nil, fmt.Errorf("connecting to the journal's cluster (%s): %w", strings.Join(c.Servers, ", "), err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, fmt.Errorf("the journal's cluster cannot be reached (%s): start it, or correct the addresses: %w", strings.Join(c.Servers, ", "), err)
		}
	}
}

// check refuses a cluster that cannot keep what it is given.
func (c *Cluster) check(ctx context.Context, conn *nats.Conn, js jetstream.JetStream, logger *slog.Logger) error {
	if version := conn.ConnectedServerVersion(); !storesBatches(version) {
		return fmt.Errorf("the journal's cluster runs NATS %s (server %s): it has to be %d.%d or later, on every server",
			version, conn.ConnectedServerName(), oldestMajor, oldestMinor)
	}
	var err error
	for range 10 {
		// A cluster that has just been started has no leader yet.
		if _, err = js.AccountInfo(ctx); err == nil || errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
			break
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("the journal's cluster cannot store: enable JetStream on its servers, and for the account that is used: %w", err)
	}
	c.checkSync(conn, logger)
	return nil
}

// storesBatches says whether a version of the server is new enough.
func storesBatches(version string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > oldestMajor || (major == oldestMajor && minor >= oldestMinor)
}

// checkSync warns of servers that acknowledge what is not on the disk. A client
// cannot find it out, unless its account may ask for the state of the servers.
func (c *Cluster) checkSync(conn *nats.Conn, logger *slog.Logger) {
	const lost = "with any other sync_interval a power cut loses events that were acknowledged, and can lose whole streams: " +
		"set `jetstream { sync_interval: always }` on every server"
	inbox := conn.NewInbox()
	subscription, err := conn.SubscribeSync(inbox)
	if err != nil {
		return
	}
	defer func() { _ = subscription.Unsubscribe() }()
	if err := conn.PublishRequest("$SYS.REQ.SERVER.PING.JSZ", inbox, []byte(`{"config":true}`)); err != nil {
		return
	}
	asked := 0
	for {
		message, err := subscription.NextMsg(300 * time.Millisecond)
		if err != nil {
			break
		}
		var answer struct {
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
			Data *struct {
				Config struct {
					SyncAlways bool `json:"sync_always"`
				} `json:"config"`
			} `json:"data"`
		}
		if json.Unmarshal(message.Data, &answer) != nil || answer.Data == nil {
			continue
		}
		asked++
		if !answer.Data.Config.SyncAlways {
			logger.Error("a server of the journal's cluster acknowledges what is not on its disk: "+lost, "server", answer.Server.Name)
		}
	}
	if asked == 0 {
		logger.Warn("whether the journal's cluster writes to its disks before it acknowledges cannot be found out from here; " + lost)
	}
}

// streamError says what to do when a stream cannot be made.
func streamError(what string, replicas int, err error) error {
	if api := (*jetstream.APIError)(nil); errors.As(err, &api) {
		switch api.ErrorCode {
		case 10074, 10005:
			return fmt.Errorf("opening %s on %d servers: the cluster has too few that can store (set its replicas to fewer, or add servers): %w", what, replicas, err)
		}
	}
	return fmt.Errorf("opening %s: %w", what, err)
}
