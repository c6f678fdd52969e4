package selftest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/sensor"
)

// A hunt is the outcome of one run of the daemon.
type hunt struct {
	backend backend
	uid     uint32
	full    bool       // with straces; otherwise only the rules are tried, or
	sensor  sensor.Way // only the first packet is, with the sensor in this way; "": as the daemon likes
	// elsewhere says that only a first packet of another network namespace is tried, and netns is the inode of that.
	elsewhere bool
	netns     uint64
	noIPv6    string
	err       error // why it could not be done as planned
	log       []string

	began   time.Time     // when the daemon started
	ready   time.Duration // from then until it was ready
	first   sentQuery     // the sender that stays, started before anything is traced
	queries []sentQuery   // those after it
	gate    string        // the daemon's log message about the gate, "" if there was none
	memory  int64         // the daemon's peak, in bytes

	hits   []event.Hit
	traces []event.Trace
	proofs []event.Proof
	losses []event.Loss

	stopped  time.Duration
	stopErr  error
	straces  []int               // that outlived the daemon
	stayed   string              // what is wrong with the sender that should have stayed, if anything
	leftover map[string][]string // in the firewall, by family
	saveErr  map[string]error
}

// rounds is how often a full hunt sends a query in every way.
const rounds = 5

// hunt moves the calling thread into a new namespace and lets the daemon hunt there. A hunt that
// is not full ends sooner.
func (s *session) hunt(ctx context.Context, h *hunt) *hunt {
	b := h.backend
	h.uid, h.leftover, h.saveErr = s.uid, map[string][]string{}, map[string]error{}
	if b.absent["ipv4"] != "" {
		h.full = false
		return h
	}
	if h.err = ended(ctx); h.err != nil {
		return h
	}
	if h.err = enterNew(); h.err != nil {
		return h
	}
	addrs := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	if conn, err := net.ListenPacket("udp", "[::1]:0"); err != nil {
		h.noIPv6 = "there is no IPv6: " + err.Error()
	} else {
		conn.Close()
		addrs = append(addrs, netip.IPv6Loopback())
	}
	resolver, err := listen(addrs...)
	if err != nil {
		h.err = err
		return h
	}
	defer resolver.close()

	dir := s.path(h.name() + "-evidence")
	h.began = time.Now()
	d, err := s.start(h, dir)
	if err != nil {
		h.err = err
		return h
	}
	stays, err := s.drive(ctx, d, h, dir)
	h.err = err
	h.finish(d, stays, dir)
	for _, family := range h.families() {
		// Without ctx, as leftovers must be known even after a Ctrl-C.
		h.leftover[family], h.saveErr[family] = b.leftovers(context.WithoutCancel(ctx), family)
	}
	return h
}

// finish stops the daemon and looks at what it leaves behind.
func (h *hunt) finish(d *daemon, stays *offender, dir string) {
	h.memory = peak(d.cmd.Process.Pid)
	stopping := time.Now()
	h.stopErr = d.stop()
	h.stopped = time.Since(stopping)
	h.log, _ = d.log()
	if h.err == nil || h.ready > 0 {
		h.err = errors.Join(h.err, h.read(dir))
	}
	h.straces = alive(h.traces)
	if stays != nil {
		h.stayed = wrongWith(stays.cmd.Process.Pid)
		if err := stays.end(); err != nil && h.stayed == "" {
			h.stayed = err.Error()
		}
	}
}

// name is that of the hunt's files.
func (h *hunt) name() string {
	switch {
	case h.elsewhere:
		return h.backend.name + "-elsewhere"
	case h.sensor != "":
		return h.backend.name + "-" + string(h.sensor)
	}
	return h.backend.name
}

// one reports whether only one packet is sent, and its sender traced.
func (h *hunt) one() bool { return h.sensor != "" || h.elsewhere }

// families returns the families that can be tried.
func (h *hunt) families() []string {
	if h.noIPv6 != "" || h.backend.absent["ipv6"] != "" {
		return []string{"ipv4"}
	}
	return families
}

// start writes a configuration and starts a daemon with it.
func (s *session) start(h *hunt, dir string) (*daemon, error) {
	guard, namespaces := "{}", config.NamespacesHost
	if h.elsewhere {
		namespaces = config.NamespacesAll
	}
	if !h.full && !h.one() {
		guard = fmt.Sprintf("{never_users: [%d]}", s.uid)
	}
	// Everything else has its default, except the deadline, which is longer: a busy machine
	// should show how long it takes, and not fail.
	text := fmt.Sprintf(`rules: [{name: selftest, domain: %s, families: [%s]}]
capture: {levels: [{hits: 1, processes: 100, window: 30s, strings: 512}], gate_deadline: 2s}
guard: %s
evidence: {dir: %q, min_free: 1MiB}
log: {format: text, level: debug}
sensor: %s
namespaces: %s
`, domain, strings.Join(h.families(), ", "), guard, dir, cmp.Or(string(h.sensor), config.SensorAuto), namespaces)
	path := s.path(h.name() + ".yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write a configuration: %w", err)
	}
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PATH=") && !strings.HasPrefix(v, "NOTIFY_SOCKET=") {
			env = append(env, v)
		}
	}
	env = append(env, "PATH="+h.backend.dir+":"+os.Getenv("PATH"))
	return startDaemon(s.program, path, s.path(h.name()+".log"), env)
}

// drive sends queries to a daemon and waits until they are recorded and, in a full hunt,
// proven. It returns the offender that stays, if there is one.
func (s *session) drive(ctx context.Context, d *daemon, h *hunt, dir string) (stays *offender, err error) {
	if _, err := d.await(ctx, "ready"); err != nil {
		return nil, err
	}
	h.ready = time.Since(h.began)
	count := len(ways)
	if h.full {
		if stays, h.first, err = s.offend(ways[0], true); err != nil {
			return nil, err
		}
		// A missing message fails a check of its own.
		if _, err := d.await(ctx, "tracing"); errors.Is(err, errEnded) {
			return stays, err
		}
		h.gate, err = d.await(ctx, "the gate is in place", "the gate does not cover", "no gate", "the gate failed")
		if errors.Is(err, errEnded) {
			return stays, err
		}
		count *= rounds
	} else if h.one() {
		count = 1
	}
	if h.elsewhere {
		resolver, err := h.leave()
		if err != nil {
			return nil, err
		}
		defer resolver.close()
	}
	for i := range count {
		w := ways[i%len(ways)]
		if !slices.Contains(h.families(), w.family) {
			continue
		}
		if err := ended(ctx); err != nil {
			return stays, err
		}
		o, q, err := s.offend(w, false)
		if err != nil {
			return stays, err
		}
		h.queries = append(h.queries, q)
		if err := o.end(); err != nil {
			return stays, fmt.Errorf("send a query over %s and %s: %w", w.transport, w.family, err)
		}
	}
	return stays, h.settle(ctx, d, dir)
}

// settle waits until the evidence is complete. What is missing in the end fails its check.
func (h *hunt) settle(ctx context.Context, d *daemon, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond) // the catalogue notifies nobody when it grows
	defer tick.Stop()
	for {
		if err := h.read(dir); err != nil {
			return err
		}
		if h.complete() {
			return nil
		}
		select {
		case <-tick.C:
		case <-d.done:
			return errEnded
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *hunt) complete() bool {
	for _, q := range h.queries {
		hit := h.hit(q)
		if hit == nil || (h.full || h.one()) && h.proof(hit) == nil {
			return false
		}
	}
	return true
}

// ended says why a hunt cannot go on.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ended early: %w", err)
	}
	return nil
}
