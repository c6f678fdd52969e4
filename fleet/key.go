package fleet

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// keyDialer reads who we are again before each attempt to connect. nats.go reads the seed of an NKey each time it signs, but says that we are who
// we were at first: with another seed in the file it would never get in again.
type keyDialer struct {
	nats.CustomDialer
	file string // fleet.credentials
	conn atomic.Pointer[nats.Conn]
}

// Dial is called by nats.go with the lock of the connection, before it says who we are (createConn and connectProto in nats.go).
func (d *keyDialer) Dial(network, address string) (net.Conn, error) {
	if nc := d.conn.Load(); nc != nil && filepath.Ext(d.file) == ".nk" {
		if key, err := publicKey(d.file); err == nil { // else signing fails, and says why
			nc.Opts.Nkey = key
		}
	}
	return d.CustomDialer.Dial(network, address)
}

// publicKey returns that of the seed in a file.
func publicKey(file string) (string, error) {
	seed, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	defer clear(seed)
	pair, err := nkeys.ParseDecoratedUserNKey(seed)
	if err != nil {
		return "", fmt.Errorf("read the seed in %s: %w", file, err)
	}
	defer pair.Wipe()
	return pair.PublicKey()
}
