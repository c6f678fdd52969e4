package fleet

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"culprit/internal/config"
	"culprit/internal/testkit"
	"culprit/internal/testkit/natsserver"
)

// newKey makes an NKey: its seed is in a file.
func newKey(t *testing.T, file string) (public string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err == nil {
		public, err = pair.PublicKey()
	}
	if err == nil {
		err = errors.Join(os.WriteFile(file+"+", seed, 0o600), os.Rename(file+"+", file))
	}
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// The files of the credentials are replaced while a host runs: it takes the new ones when it connects again, and the server has forgotten the
// old ones.
func TestReplacedCredentials(t *testing.T) {
	t.Parallel()
	for _, asHost := range []bool{true, false} {
		t.Run(fmt.Sprint("host ", asHost), func(t *testing.T) {
			t.Parallel()
			seed := filepath.Join(t.TempDir(), "web1.nk")
			cert, key := certificate(t)
			knows := func(user string) string {
				return fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\nauthorization { users: [{nkey: %s}] }", cert, key, cert, user)
			}
			s := natsserver.Start(t, knows(newKey(t, seed)))
			c := config.Fleet{
				Servers: []string{strings.Replace(s.URL, "nats:", "tls:", 1)}, Name: "f", Host: "web1", Credentials: seed,
				TLS: config.FleetTLS{CA: cert, Cert: cert, Key: key},
			}
			var conn *Conn
			var err error
			if asHost {
				conn, err = ConnectHost(c, slog.New(slog.DiscardHandler))
			} else {
				conn, err = Connect(t.Context(), c)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			in := func() error {
				_, err := conn.Request("nobody", nil, requestTimeout)
				if errors.Is(err, nats.ErrNoResponders) { // that is an answer of the server
					return nil
				}
				return fmt.Errorf("not connected: %w", err)
			}
			testkit.Eventually(t, "connected", in)

			fresh, freshKey := certificate(t) // of another authority
			for from, to := range map[string]string{fresh: cert, freshKey: key} {
				if err := os.Rename(from, to); err != nil {
					t.Fatal(err)
				}
			}
			now := newKey(t, seed)
			s.Kill()
			s.Configure(knows(now))
			s.Start()
			testkit.Eventually(t, "connected with the new key and certificates", in)
		})
	}
}
