package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"culprit/internal/config"
)

// A Conn is a connection to the servers of a fleet. It connects again by itself.
type Conn struct {
	*nats.Conn
	JS   jetstream.JetStream
	Name Name
	Host string // of [ConnectHost]; empty for those who look

	refused chan error // what the servers do not allow
}

// Bounds of a connection.
const (
	connectTimeout = 5 * time.Second
	firstTimeout   = time.Second     // for all servers together when a host starts
	requestTimeout = 5 * time.Second // for an answer of JetStream, where the context has no deadline
	reconnectLeast = time.Second     // doubled each time all servers were tried
	reconnectMost  = 30 * time.Second
	pingInterval   = 20 * time.Second
)

// Connect connects somebody who looks at the fleet, or an operator. It fails if no server answers.
func Connect(ctx context.Context, c config.Fleet) (*Conn, error) {
	return connect(c, "", "culprit", nil, dialer{ctx})
}

// ConnectHost connects this host. It waits a second for the servers: then it goes on trying, and what is asked meanwhile
// fails. What becomes of the connection is logged.
func ConnectHost(c config.Fleet, log *slog.Logger) (*Conn, error) {
	host, err := HostName(c)
	if err != nil {
		return nil, err
	}
	first := &brief{until: time.Now().Add(firstTimeout)}
	defer first.over.Store(true)
	return connect(c, host, "culprit on "+host, log, first,
		nats.CustomInboxPrefix(Name(c.Name).Inbox(host)),
		nats.RetryOnFailedConnect(true), nats.SkipHostLookup())
}

func connect(c config.Fleet, host, client string, log *slog.Logger, dial nats.CustomDialer, more ...nats.Option) (*Conn, error) {
	if !c.Enabled() {
		return nil, errors.New("no servers: set fleet.servers in the configuration, or give --servers")
	}
	options, err := credentials(c)
	if err != nil {
		return nil, err
	}
	options = append(options,
		nats.Name(client),
		nats.Timeout(connectTimeout),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(2),
		nats.MaxReconnects(-1), nats.CustomReconnectDelay(pause),
		nats.ReconnectBufSize(-1), // what cannot be sent fails, and stays in the outbox
		nats.IgnoreDiscoveredServers(),
		nats.IgnoreAuthErrorAbort(), // the server's configuration may be mended
	)
	refused := make(chan error, 1)
	options = append(options, logged(log, refused)...)
	key := &keyDialer{CustomDialer: dial, file: c.Credentials}
	options = append(options, nats.SetCustomDialer(key))
	nc, err := nats.Connect(strings.Join(c.Servers, ","), append(options, more...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the fleet at %s: %w", strings.Join(c.Servers, ","), explained(err))
	}
	key.conn.Store(nc)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(requestTimeout))
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("use JetStream of the fleet: %w", err)
	}
	return &Conn{Conn: nc, JS: js, Name: Name(c.Name), Host: host, refused: refused}, nil
}

// Allowed is a context that ends, with the servers' words as its cause, when they do not allow something: who asks for it gets no answer.
func (c *Conn) Allowed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case err := <-c.refused:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// dialer ends an attempt to connect that nobody waits for any more.
type dialer struct{ ctx context.Context }

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: connectTimeout}).DialContext(d.ctx, network, address)
}

// brief gives all attempts together a second until it is over. [nats.Connect] tries every server before it returns, and those
// that do not answer, or a resolver, would take their time; after that it goes on by itself.
type brief struct {
	until time.Time
	over  atomic.Bool
}

func (d *brief) Dial(network, address string) (net.Conn, error) {
	until := d.until
	if d.over.Load() {
		until = time.Now().Add(connectTimeout)
	}
	return (&net.Dialer{Deadline: until}).Dial(network, address)
}

// pause is how long to wait before all servers are tried again. It differs from host to host, so that they do not come all
// at once.
func pause(attempts int) time.Duration {
	longest := min(reconnectLeast<<min(attempts, 10), reconnectMost)
	return longest/2 + rand.N(longest/2)
}

// credentials are the options that say who we are, and whom we trust. Their files are read again for each connection, so that replaced ones
// need no restart: by nats.go itself, but for the public key of an NKey, see [keyDialer].
func credentials(c config.Fleet) (options []nats.Option, err error) {
	if c.TLS.CA != "" {
		options = append(options, nats.RootCAs(c.TLS.CA))
	}
	if c.TLS.Cert != "" {
		options = append(options, nats.ClientCert(c.TLS.Cert, c.TLS.Key))
	}
	if c.Credentials == "" {
		return options, nil
	}
	info, err := os.Stat(c.Credentials)
	if err != nil {
		return nil, fmt.Errorf("read fleet.credentials: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read fleet.credentials: others can read %s: type chmod 600 %[1]s", c.Credentials)
	}
	if filepath.Ext(c.Credentials) == ".creds" {
		return append(options, nats.UserCredentials(c.Credentials)), nil
	}
	key, err := nats.NkeyOptionFromSeed(c.Credentials)
	if err != nil {
		return nil, fmt.Errorf("read fleet.credentials %s: %w: it must hold the seed of a user's NKey, which begins with SU", c.Credentials, err)
	}
	return append(options, key), nil
}

// logged are the options that log what becomes of a connection; without a log nothing is printed.
func logged(log *slog.Logger, refused chan<- error) []nats.Option {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	last := "" // only nats.go's own goroutine uses it
	return []nats.Option{
		nats.ConnectHandler(func(nc *nats.Conn) {
			log.Info("connected to the fleet", "server", nc.ConnectedUrlRedacted())
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			last = ""
			log.Info("connected to the fleet again", "server", nc.ConnectedUrlRedacted())
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("disconnected from the fleet: events wait", "error", explained(err))
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if why := err.Error(); why != last {
				last = why
				log.Warn("cannot connect to the fleet: trying again", "error", explained(err))
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("the fleet refuses", "error", explained(err))
			if errors.Is(err, nats.ErrPermissionViolation) {
				select {
				case refused <- explained(err):
				default:
				}
			}
		}),
	}
}

// explained says what to do about errors that a person can mend.
func explained(err error) error {
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired),
		errors.Is(err, nats.ErrNkeysNotSupported):
		return fmt.Errorf("%w: the servers do not know these credentials: check fleet.credentials, and the servers' list of users", err)
	case errors.Is(err, nats.ErrPermissionViolation):
		return fmt.Errorf("%w: these credentials do not have the right: use those of an operator, or see the users of nats-server", err)
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return fmt.Errorf("no server of the fleet is connected now (%w)", err)
	case errors.Is(err, nats.ErrNoServers):
		return fmt.Errorf("%w: check fleet.servers, and that nats-server runs there", err)
	case errors.Is(err, nats.ErrSecureConnWanted), errors.Is(err, nats.ErrSecureConnRequired):
		return fmt.Errorf("%w: the server has no TLS, or wants it: see fleet.servers", err)
	}
	return err
}
