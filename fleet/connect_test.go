package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nats-io/nats.go"

	"culprit/internal/config"
	"culprit/internal/testkit/natsserver"
)

func TestConnect(t *testing.T) {
	t.Parallel()
	s := natsserver.Start(t, "")
	c, err := Connect(context.Background(), config.Fleet{Servers: []string{s.URL}, Name: "culprit"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.JS.AccountInfo(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestConnectRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := filepath.Join(dir, "open.nk")
	noSeed := filepath.Join(dir, "no.nk")
	for path, mode := range map[string]os.FileMode{open: 0o644, noSeed: 0o600} {
		if err := os.WriteFile(path, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
	}
	s := natsserver.Start(t, "authorization { users: [{user: a, password: b}] }")
	for want, c := range map[string]config.Fleet{
		"no servers":                              {},
		"check fleet.servers":                     {Servers: []string{"nats://127.0.0.1:1"}},
		"do not know these credentials":           {Servers: []string{s.URL}},
		"others can read":                         {Servers: []string{s.URL}, Credentials: open},
		"the seed of a user's NKey":               {Servers: []string{s.URL}, Credentials: noSeed},
		"read fleet.credentials: stat /no/no.nk:": {Servers: []string{s.URL}, Credentials: "/no/no.nk"},
	} {
		if _, err := Connect(context.Background(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}

// A host starts without a server, and is connected when there is one.
func TestConnectHostLater(t *testing.T) {
	t.Parallel()
	s := natsserver.Start(t, "")
	s.Kill()
	c, err := ConnectHost(config.Fleet{Servers: []string{s.URL}, Name: "culprit", Host: "web1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.JS.AccountInfo(context.Background()); err == nil {
		t.Error("a server that is gone answered")
	}
	connected := c.StatusChanged(nats.CONNECTED)
	s.Start()
	if !c.IsConnected() {
		<-connected
	}
	if _, err := c.JS.AccountInfo(context.Background()); err != nil {
		t.Error(err)
	}
}

// Servers that do not answer do not hold up the start of a host.
func TestConnectHostSilent(t *testing.T) {
	t.Parallel()
	silent := make([]string, 6)
	for i := range silent {
		// Nobody takes connections from its queue, which is full.
		silent[i] = "nats://" + silentAt(t)
	}
	begin := time.Now()
	c, err := ConnectHost(config.Fleet{Servers: silent, Name: "culprit", Host: "web1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if took := time.Since(begin); took > 2*connectTimeout {
		t.Errorf("six silent servers took %s", took)
	}
}

// silentAt returns the address of a listener whose queue is full: a connection to it waits (tcp_v4_conn_request in
// net/ipv4/tcp_ipv4.c drops its SYN).
func silentAt(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for {
		c, err := net.DialTimeout("tcp", address, 500*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
}
