package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"culprit/evidence"
	"culprit/evidence/catalogue"
	"culprit/evidence/outlet"
	"culprit/fleet"
	"culprit/internal/config"
	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/internal/testkit/natsserver"
)

// eventually waits until check returns nil: a cluster takes its time on a busy machine.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	testkit.Within(t, 2*time.Minute, what, check)
}

// operator connects with all rights and sets the fleet up.
func operator(t testing.TB, servers []*natsserver.Server, p fleet.Plan) *fleet.Conn {
	t.Helper()
	c, err := fleet.Connect(context.Background(), config.Fleet{Servers: natsserver.URLs(servers), Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	p.Replicas = max(1, p.Replicas)
	p.BundleBytes = 64 << 20
	eventually(t, "the fleet is set up", func() error {
		_, err := c.Setup(context.Background(), p)
		return err
	})
	return c
}

// A host has a real store, whose events go to the fleet.
type host struct {
	t       testing.TB
	name    string
	machine string
	dir     string
	config  config.Fleet
	log     *lines

	store  *evidence.Store
	conn   *fleet.Conn
	outbox *catalogue.Outbox
	sent   []string // ids of hits
	last   uint64   // the number of the last event, once all hits are written
}

// alone makes a fleet of one server and one host.
func alone(t testing.TB, settings string, p fleet.Plan, name string) (*natsserver.Server, *fleet.Conn, *host) {
	t.Helper()
	s := natsserver.Start(t, settings)
	one := []*natsserver.Server{s}
	return s, operator(t, one, p), newHost(t, name, one)
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newHost(t testing.TB, name string, servers []*natsserver.Server) *host {
	t.Helper()
	h := &host{
		t: t, name: name, machine: "machine of " + name, dir: t.TempDir(), log: new(lines),
		config: config.Fleet{Servers: natsserver.URLs(servers), Name: "f", Host: name},
	}
	h.start()
	t.Cleanup(h.stop)
	return h
}

func (h *host) start() {
	h.t.Helper()
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if h.conn, err = fleet.ConnectHost(h.config, log); err != nil {
		h.t.Fatal(err)
	}
	h.store, err = evidence.Open(h.dir, log, evidence.SendToFleet(h.name, 128<<20, func(o *catalogue.Outbox) outlet.Outlet {
		h.outbox = o
		return fleet.NewPublisher(h.conn, o, h.machine, log)
	}))
	if err != nil {
		h.t.Fatal(err)
	}
	h.last = h.outbox.Last()
}

func (h *host) stop() {
	if h.store != nil {
		if err := h.store.Close(); err != nil {
			h.t.Error(err)
		}
		h.conn.Close()
		h.store = nil
	}
}

// hits records hits, whose events are sent.
func (h *host) hits(n int) {
	h.t.Helper()
	for range n {
		hit := &event.Hit{
			Timestamp: time.Now(), Event: event.Meta{ID: event.NewID(), Kind: "alert", Action: event.ActionHit},
			Rule: event.Rule{Name: "r"}, Packet: []byte(strings.Repeat("p", 100)),
		}
		hit.Culprit.Count = 1
		h.store.Hit(hit)
		h.sent = append(h.sent, hit.Event.ID)
		h.last++
	}
}

// written waits until so many events are in the outbox.
func (h *host) written(n int64) {
	h.t.Helper()
	eventually(h.t, "they are written", func() error {
		if got := h.store.Counts().FleetUnsent; got < n {
			return fmt.Errorf("%d wait", got)
		}
		return nil
	})
}

// allSent waits until nothing waits.
func (h *host) allSent() {
	h.t.Helper()
	eventually(h.t, "the events of "+h.name+" are in the stream", func() error {
		written := h.outbox.Last() // first: what is written later waits
		if n := h.store.Counts(); n.FleetUnsent > 0 || written < h.last {
			return fmt.Errorf("%d wait, %d of %d are written; the log:\n%s", n.FleetUnsent, written, h.last, h.log)
		}
		return nil
	})
}

// awaitLog waits for a text in the log.
func (h *host) awaitLog(text string) {
	h.t.Helper()
	eventually(h.t, "the log has "+text, func() error {
		if !strings.Contains(h.log.String(), text) {
			return errors.New(h.log.String())
		}
		return nil
	})
}

// arrived reads the stream and returns the ids of the hits of each host, in order. It fails the test if the numbers of a host
// have gaps, or come twice.
func arrived(t testing.TB, c *fleet.Conn) map[string][]string {
	t.Helper()
	return arrivedFrom(t, c, func(nats.Header) bool { return true })
}

// arrivedFrom is arrived for those messages whose headers are wanted.
func arrivedFrom(t testing.TB, c *fleet.Conn, wanted func(nats.Header) bool) map[string][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute) // more than all that it waits for
	defer cancel()
	eventually(t, "the reader is connected", func() error { return c.FlushTimeout(5 * time.Second) })
	all := map[string][]string{}
	next := map[string]uint64{}
	var stream jetstream.Stream
	// Each try has a time of its own: who asks while the servers choose a leader gets no answer.
	tries := context.Background()
	eventually(t, "the stream is there", func() (err error) { stream, err = c.JS.Stream(tries, c.Name.Stream()); return err })
	var info *jetstream.StreamInfo
	eventually(t, "the stream says what it has", func() (err error) { info, err = stream.Info(tries); return err })
	var consumer jetstream.Consumer
	eventually(t, "the stream can be read", func() (err error) { // after a kill the servers choose a leader first
		consumer, err = stream.OrderedConsumer(tries, jetstream.OrderedConsumerConfig{})
		return err
	})
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for range info.State.Msgs {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		host, err := c.Name.HostOfSubject(m.Subject())
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Data()) == 0 || !wanted(m.Headers()) {
			continue
		}
		of := host + " " + m.Headers().Get(fleet.HeaderOutbox)
		first, last := number(t, m, fleet.HeaderFirst), number(t, m, fleet.HeaderLast)
		if first != next[of]+1 && next[of] != 0 {
			t.Errorf("%s: after event %d comes %d to %d", of, next[of], first, last)
		}
		next[of] = last
		for line := range strings.Lines(string(m.Data())) {
			var h event.Hit
			if err := json.Unmarshal([]byte(line), &h); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if h.Host == nil || h.Host.Name != host {
				t.Fatalf("a line of %s is of %+v", host, h.Host)
			}
			if h.Event.Action == event.ActionHit {
				if string(h.Culprit.Raw) != strings.Repeat("p", 100) {
					t.Errorf("a packet became %q", h.Culprit.Raw)
				}
				all[host] = append(all[host], h.Event.ID)
			}
		}
	}
	return all
}

func number(t testing.TB, m jetstream.Msg, header string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(m.Headers().Get(header), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// onceEach fails the test unless all hits of the hosts arrived, each once and in order.
func onceEach(t testing.TB, c *fleet.Conn, hosts ...*host) {
	t.Helper()
	got := arrived(t, c)
	for _, h := range hosts {
		if !slices.Equal(got[h.name], h.sent) {
			seen := map[string]int{}
			for _, id := range got[h.name] {
				seen[id]++
			}
			missing, twice := 0, 0
			for _, id := range h.sent {
				switch {
				case seen[id] == 0:
					missing++
				case seen[id] > 1:
					twice++
				}
			}
			t.Errorf("%s: %d hits arrived, want %d: %d are missing, %d came twice; or their order differs", h.name, len(got[h.name]), len(h.sent), missing, twice)
		}
	}
}

// Events arrive once and in order, though the server is killed, the host starts again and again, and starts without a server.
func TestPublish(t *testing.T) {
	t.Parallel()
	s, op, h := alone(t, "", fleet.Plan{}, "web1.example.com")
	h.hits(100)
	h.allSent()
	for round := range 4 {
		h.hits(50)
		if round%2 == 0 {
			s.Kill()
		}
		h.hits(50)
		h.stop()
		h.start()
		h.hits(50)
		if round%2 == 0 {
			s.Start()
		}
		h.hits(50)
		h.allSent()
	}
	onceEach(t, op, h)
}

// A server that stands still takes messages after the host has given up waiting for it: nothing comes twice.
func TestPublishSlow(t *testing.T) {
	t.Parallel()
	s, op, h := alone(t, "", fleet.Plan{}, "web1")
	h.hits(10)
	h.allSent()
	s.Signal(syscall.SIGSTOP)
	h.hits(10)
	h.awaitLog("events cannot be sent out: they wait")
	h.hits(10)
	s.Signal(syscall.SIGCONT)
	h.allSent()
	onceEach(t, op, h)
}

// While one server of three is killed under load, and while all are, nothing is lost or doubled.
func TestPublishToCluster(t *testing.T) {
	t.Parallel()
	s := natsserver.Cluster(t, 3, "")
	op := operator(t, s, fleet.Plan{Replicas: 3})
	var hosts []*host
	for i := range 10 {
		hosts = append(hosts, newHost(t, fmt.Sprintf("web%d", i), s))
	}
	load := func() {
		for range 20 {
			for _, h := range hosts {
				h.hits(2)
			}
			time.Sleep(10 * time.Millisecond) // a load, not a wait
		}
	}
	load()
	for i := range s {
		killed := make(chan struct{})
		go func() { defer close(killed); s[i].Kill() }()
		load()
		<-killed
		s[i].Start()
	}
	for _, one := range s {
		one.Kill()
	}
	load()
	for _, one := range s {
		one.Launch()
	}
	for _, one := range s {
		one.AwaitReady()
	}
	load()
	for _, h := range hosts {
		h.allSent()
	}
	onceEach(t, op, hosts...)
}

// Servers that take less at once than a host would send get smaller messages.
func TestPublishSmallMessages(t *testing.T) {
	t.Parallel()
	s, op, h := alone(t, "max_payload: 64KB", fleet.Plan{}, "web1")
	h.hits(1)
	h.allSent()
	s.Kill()
	h.hits(500)
	h.written(500)
	s.Start()
	h.allSent()
	onceEach(t, op, h)
}

// A full stream that keeps what is old makes hosts wait; with more room all arrive.
func TestPublishToFullStream(t *testing.T) {
	t.Parallel()
	_, op, h := alone(t, "", fleet.Plan{MaxBytes: 64 << 10, DiscardNew: true}, "web1")
	h.hits(1000)
	eventually(t, "the stream is full", func() error {
		if !strings.Contains(h.log.String(), "maximum bytes exceeded") {
			return errors.New("it is not")
		}
		return nil
	})
	if n := h.store.Counts().FleetUnsent; n == 0 {
		t.Error("nothing waits")
	}
	stream, err := op.JS.Stream(t.Context(), op.Name.Stream())
	if err != nil {
		t.Fatal(err)
	}
	wide := stream.CachedInfo().Config
	wide.MaxBytes = 64 << 20
	if _, err := op.JS.UpdateStream(t.Context(), wide); err != nil {
		t.Fatal(err)
	}
	h.allSent()
	onceEach(t, op, h)
}

// Evidence that was restored from an older copy of itself gives numbers again that the stream has: nothing is taken for sent.
func TestPublishRestored(t *testing.T) {
	t.Parallel()
	s, op, h := alone(t, "", fleet.Plan{}, "web1")
	h.hits(10)
	h.allSent()
	h.stop()
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(h.dir)); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.hits(10)
	h.allSent()
	for _, away := range []bool{false, true} { // also if more waits than the stream has
		h.stop()
		h.dir = filepath.Join(t.TempDir(), "restored")
		if err := os.CopyFS(h.dir, os.DirFS(copied)); err != nil {
			t.Fatal(err)
		}
		if away {
			s.Kill()
			h.start()
			h.hits(50)
			h.written(50)
			s.Start()
		} else {
			h.start()
			h.hits(5)
		}
		h.allSent()
	}
	onceEach(t, op, h)
}

// Two machines with one name do not mix: the second waits until an operator lets it go on.
func TestPublishOtherMachine(t *testing.T) {
	t.Parallel()
	s, op, first := alone(t, "", fleet.Plan{}, "web1")
	first.hits(10)
	first.allSent()
	second := newHost(t, "web1", []*natsserver.Server{s})
	second.stop()
	second.machine = "another"
	second.start()
	second.hits(10)
	second.awaitLog("another machine sends its events under this name")
	onceEach(t, op, first)
	first.stop()
	if err := op.Handover(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	second.allSent()
	first.sent = append(first.sent, second.sent...)
	onceEach(t, op, first)
}

// With a credential that the servers do not know events wait, and arrive when they do.
func TestPublishWithoutRights(t *testing.T) {
	t.Parallel()
	n := fleet.Name("f")
	users := []fleet.User{n.HostUser("web1"), n.HostUser("web2")}
	dir := t.TempDir()
	if _, err := fleet.Keys(dir, users); err != nil {
		t.Fatal(err)
	}
	accounts := func(users ...fleet.User) string {
		return strings.Replace(n.ServerConfig(users), "users: [", "users: [{user: op, password: op}", 1)
	}
	s := natsserver.Start(t, accounts(users[1]))
	withPassword := &natsserver.Server{URL: strings.Replace(s.URL, "//", "//op:op@", 1)}
	op := operator(t, []*natsserver.Server{withPassword}, fleet.Plan{Hosts: []string{"web1"}})
	h := newHost(t, "web1", []*natsserver.Server{s})
	h.stop()
	h.config.Credentials = filepath.Join(dir, "web1.nk")
	h.start()
	h.hits(10)
	h.awaitLog("the servers do not know these credentials")
	s.Configure(accounts(users...))
	s.Signal(syscall.SIGHUP)
	h.allSent()
	onceEach(t, op, h)
}
