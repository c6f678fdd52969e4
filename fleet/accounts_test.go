package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"culprit/fleet"
	"culprit/internal/config"
	"culprit/internal/testkit"
	"culprit/internal/testkit/natsserver"
)

// guarded starts a server with the accounts of a fleet, and connects users of it.
type guarded struct {
	t      *testing.T
	server *natsserver.Server
	keys   string
	op     *fleet.Conn
}

func newGuarded(t *testing.T, hosts ...string) *guarded {
	t.Helper()
	const n = fleet.Name("f")
	g := &guarded{t: t, keys: t.TempDir()}
	users := []fleet.User{n.Operator(), n.Reader()}
	for _, h := range hosts {
		users = append(users, n.HostUser(h))
	}
	made, err := fleet.Keys(g.keys, users)
	if err != nil || len(made) != len(users) {
		t.Fatal(made, err)
	}
	g.server = natsserver.Start(t, n.ServerConfig(users))
	g.op = g.connect("operator")
	if _, err := g.op.Setup(t.Context(), fleet.Plan{Replicas: 1, BundleBytes: 64 << 20, Hosts: hosts}); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *guarded) config(user string) config.Fleet {
	return config.Fleet{Servers: []string{g.server.URL}, Name: "f", Host: user, Credentials: filepath.Join(g.keys, user+".nk")}
}

func (g *guarded) connect(user string) *fleet.Conn {
	g.t.Helper()
	c, err := fleet.Connect(g.t.Context(), g.config(user))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.Close)
	return c
}

func (g *guarded) host(name string) *fleet.Conn {
	g.t.Helper()
	c, err := fleet.ConnectHost(g.config(name), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.Close)
	eventually(g.t, "the host is connected", func() error { return c.FlushTimeout(5 * time.Second) })
	return c
}

// sender makes a host that sends its events with the rights that are printed.
func (g *guarded) sender(name string) *host {
	g.t.Helper()
	h := newHost(g.t, name, []*natsserver.Server{g.server})
	h.stop()
	h.config = g.config(name)
	h.start()
	return h
}

// With the rights that are printed a host can do all that it has to.
func TestAccountsAreEnough(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "a", "b.example.com")
	h := g.sender("b.example.com")
	h.hits(10)
	h.allSent()
	h.stop()
	h.start()
	h.hits(10)
	h.allSent()
	onceEach(t, g.connect("reader"), h)

	c := h.conn
	if err := c.Put(t.Context(), c.Name.Hosts(), fleet.Token(c.Host), []byte("{}")); err != nil {
		t.Error(err)
	}
	if _, err := c.Last(t.Context(), c.Name.Hosts().Stream(), c.Name.Hosts().Subject(fleet.Token(c.Host))); err != nil {
		t.Error(err)
	}
	if err := g.op.Put(t.Context(), g.op.Name.Sets(), "s", []byte("x")); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := c.LastOfEach(t.Context(), c.Name.Sets().Stream(), c.Name.Sets().Subject(">"), func(string, *nats.Msg) error { n++; return nil })
	if err != nil || n != 1 {
		t.Errorf("%d sets, %v", n, err)
	}
	lists, err := g.op.JS.ObjectStore(t.Context(), g.op.Name.Lists())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lists.PutBytes(t.Context(), "l", bytes.Repeat([]byte("x"), 300_000)); err != nil {
		t.Fatal(err)
	}
	var list bytes.Buffer
	if err := c.Object(t.Context(), c.Name.Lists(), "l", 1<<20, &list); err != nil || list.Len() != 300_000 {
		t.Errorf("%d bytes, %v", list.Len(), err)
	}
	bundles, err := c.JS.ObjectStore(t.Context(), c.Name.Bundles(c.Host))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundles.PutBytes(t.Context(), "C.tar.zst", list.Bytes()); err != nil {
		t.Error(err)
	}
	reader := g.connect("reader")
	if _, err := reader.Last(t.Context(), reader.Name.Stream(), reader.Name.Subjects()); err != nil { // how far the stream is
		t.Error(err)
	}
	var bundle bytes.Buffer
	if err := reader.Object(t.Context(), reader.Name.Bundles(c.Host), "C.tar.zst", 1<<20, &bundle); err != nil || bundle.Len() != 300_000 {
		t.Errorf("%d bytes, %v", bundle.Len(), err)
	}
	if err := reader.Put(t.Context(), reader.Name.Requests(), fleet.RequestKey(c.Host, "C"), []byte("{}")); err != nil {
		t.Error(err)
	}
	if err := reader.Put(t.Context(), reader.Name.Requests(), fleet.RequestKey("a", "D"), []byte("{}")); err != nil {
		t.Error(err)
	}
	requests, err := c.JS.Consumer(t.Context(), c.Name.Requests().Stream(), fleet.Token(c.Host))
	if err != nil {
		t.Fatal(err)
	}
	batch, err := requests.Fetch(2, jetstream.FetchMaxWait(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	for m := range batch.Messages() {
		asked = append(asked, m.Subject())
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Join(asked, " "); got != "$KV.f_requests.b_example_com.C" {
		t.Errorf("the host was asked for %q", got)
	}
}

// A host whose credentials somebody has stolen reads and writes nothing of another, whatever is tried.
func TestAccountsAreNotTooMuch(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "a", "b")
	b := g.sender("b")
	b.hits(10)
	b.allSent()
	if err := b.conn.Put(t.Context(), "f_hosts", "b", []byte(`{"host":"b"}`)); err != nil {
		t.Fatal(err)
	}
	before := state(t, g.op)

	a := g.host("a")
	refused := make(chan string, 1000)
	a.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err.Error() })
	const deny = "Permissions Violation"
	try := func(subject string, body string) {
		t.Helper()
		reply, err := a.NewInbox(), error(nil)
		answers, err := a.SubscribeSync(reply)
		if err != nil {
			t.Fatal(err)
		}
		defer answers.Unsubscribe()
		if err := a.PublishRequest(subject, reply, []byte(body)); err != nil {
			t.Fatal(err)
		}
		if err := a.FlushTimeout(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		select {
		case why := <-refused:
			if !strings.Contains(strings.ToLower(why), strings.ToLower(deny)) {
				t.Errorf("%s: %s", subject, why)
			}
		case <-time.After(testkit.Patience):
			t.Errorf("%s is not refused", subject)
		}
		if m, err := answers.NextMsg(time.Millisecond); err == nil {
			t.Errorf("%s is answered: %s", subject, m.Data)
		}
	}
	for subject, body := range map[string]string{
		"f.events.b":                             "forged",
		"f.events.A":                             "forged",
		"f.events":                               "forged",
		"f.events.a.b":                           "forged",
		"$KV.f_hosts.b":                          "forged",
		"$KV.f_sets.s":                           "forged",
		"$KV.f_requests.b.C":                     "{}",
		"$O.f_lists.M.x":                         "{}",
		"$O.f_bundles_b.M.x":                     "{}",
		"$JS.API.DIRECT.GET.f_events.f.events.b": "",
		"$JS.API.DIRECT.GET.f_events":            `{"last_by_subj":"f.events.b"}`,
		"$JS.API.DIRECT.GET.KV_f_hosts.$KV.f_hosts.b":      "",
		"$JS.API.DIRECT.GET.KV_f_hosts":                    `{"multi_last":[">"]}`,
		"$JS.API.DIRECT.GET.KV_f_requests":                 `{"multi_last":[">"]}`,
		"$JS.API.DIRECT.GET.OBJ_f_bundles_b":               `{"seq":1}`,
		"$JS.API.STREAM.MSG.GET.f_events":                  `{"last_by_subj":"f.events.b"}`,
		"$JS.API.STREAM.INFO.f_events":                     "",
		"$JS.API.STREAM.LIST":                              "",
		"$JS.API.STREAM.NAMES":                             "",
		"$JS.API.STREAM.CREATE.mine":                       `{"name":"mine","storage":"memory","sources":[{"name":"f_events"}]}`,
		"$JS.API.STREAM.UPDATE.f_events":                   `{"name":"f_events","max_msgs":1}`,
		"$JS.API.STREAM.PURGE.f_events":                    "",
		"$JS.API.STREAM.PURGE.OBJ_f_bundles_a":             "",
		"$JS.API.STREAM.DELETE.f_events":                   "",
		"$JS.API.STREAM.MSG.DELETE.f_events":               `{"seq":1}`,
		"$JS.API.CONSUMER.CREATE.f_events":                 `{"stream_name":"f_events","config":{"deliver_subject":"_INBOX_f_a.x","ack_policy":"none"}}`,
		"$JS.API.CONSUMER.CREATE.KV_f_sets.x.$KV.f_sets.s": `{"stream_name":"KV_f_sets","config":{"name":"x","deliver_subject":"f.events.b","ack_policy":"none","filter_subject":"$KV.f_sets.s"}}`,
		"$JS.API.CONSUMER.DURABLE.CREATE.KV_f_requests.x":  `{"stream_name":"KV_f_requests","config":{"durable_name":"x","ack_policy":"none"}}`,
		"$JS.API.CONSUMER.MSG.NEXT.KV_f_requests.b":        "1",
		"$JS.API.CONSUMER.INFO.KV_f_requests.b":            "",
		"$JS.ACK.KV_f_requests.b.1.1.1.1.1":                "+ACK",
		"$JS.API.INFO":                                     "",
		"$SYS.REQ.USER.INFO.x":                             "",
		"_INBOX_f_b.x":                                     "forged",
	} {
		try(subject, body)
	}
	for _, subject := range []string{">", "f.events.*", "f.events.b", "_INBOX_f_b.>", "_INBOX.>", "$KV.f_hosts.>", "$KV.f_requests.>", "$O.>", "$JS.API.>", "*"} {
		if _, err := a.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		select {
		case <-refused:
		case <-time.After(testkit.Patience):
			t.Errorf("a subscription of %s is not refused", subject)
		}
	}
	// A rollup would remove what is of others.
	m := nats.NewMsg("$KV.f_hosts.a")
	m.Header.Set("Nats-Rollup", "all")
	if _, err := a.JS.PublishMsg(t.Context(), m); err == nil {
		t.Error("a rollup is taken")
	}
	if after := state(t, g.op); after != before {
		t.Errorf("something has changed: %+v, before %+v", after, before)
	}
	onceEach(t, g.op, b)
}

// state counts the messages of the fleet's streams.
func state(t *testing.T, c *fleet.Conn) (n [4]uint64) {
	t.Helper()
	for i, name := range []string{"f_events", "KV_f_hosts", "KV_f_sets", "OBJ_f_bundles_b"} {
		s, err := c.JS.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		n[i] = s.CachedInfo().State.Msgs
	}
	return n
}

// Servers do not check where the answer to a request goes: so a host can have its own message stored as that of another. Whoever
// reads it sees that.
func TestForgedByAnswer(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "a", "b")
	b := g.sender("b")
	b.hits(10)
	b.allSent()
	a := g.host("a")
	m := nats.NewMsg("f.events.a")
	m.Data = []byte(`{"event":{"action":"hit"},"host":{"name":"b"}}` + "\n")
	m.Header.Set(fleet.HeaderMachine, b.machine)
	m.Header.Set(fleet.HeaderOutbox, b.outbox.ID())
	m.Header.Set(fleet.HeaderFirst, "11")
	m.Header.Set(fleet.HeaderLast, "1000000")
	if _, err := a.JS.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if err := a.PublishRequest("$JS.API.DIRECT.GET.f_events.f.events.a", "f.events.b", nil); err != nil {
		t.Fatal(err)
	}
	reader := g.connect("reader")
	eventually(t, "the answer is stored", func() error {
		m, err := reader.Last(context.Background(), "f_events", "f.events.b")
		if m == nil || !errors.Is(err, fleet.ErrForged) {
			return errors.New("the last message of b is its own")
		}
		return nil
	})
	stream, err := reader.JS.Stream(t.Context(), "f_events")
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{FilterSubjects: []string{"f.events.b"}, DeliverPolicy: jetstream.DeliverLastPolicy})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := consumer.Next()
	if err != nil {
		t.Fatal(err)
	}
	if !fleet.Reflected(stored.Headers()) {
		t.Errorf("the forged message shows no sign: %v", stored.Headers())
	}
	// The host itself does not believe that the stream has its next million events.
	b.hits(10)
	b.stop()
	b.start()
	b.hits(10)
	b.allSent()
	if !strings.Contains(b.log.String(), "is not its own") {
		t.Errorf("the log does not tell of it:\n%s", b.log)
	}
	if err := purge(g.op, "f.events.a"); err != nil {
		t.Fatal(err)
	}
	got := arrivedFrom(t, g.op, func(h nats.Header) bool { return !fleet.Reflected(h) })["b"]
	if strings.Join(got, " ") != strings.Join(b.sent, " ") {
		t.Errorf("%d hits arrived, want %d", len(got), len(b.sent))
	}
}

// purge removes the messages of a subject.
func purge(c *fleet.Conn, subject string) error {
	stream, err := c.JS.Stream(context.Background(), c.Name.Stream())
	if err != nil {
		return err
	}
	return stream.Purge(context.Background(), jetstream.WithPurgeSubject(subject))
}

// Keys that are there stay.
func TestKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	users := []fleet.User{{Name: "a"}}
	if made, err := fleet.Keys(dir, users); err != nil || len(made) != 1 {
		t.Fatal(made, err)
	}
	again := []fleet.User{{Name: "b"}, {Name: "a"}}
	if made, err := fleet.Keys(dir, again); err != nil || len(made) != 1 || again[1].Key != users[0].Key || again[0].Key == again[1].Key {
		t.Error(made, err, users, again)
	}
	if info, err := os.Stat(filepath.Join(dir, "a.nk")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "c.nk"), []byte("no"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fleet.Keys(dir, []fleet.User{{Name: "c"}}); err == nil || !strings.Contains(err.Error(), "c.nk") {
		t.Error(err)
	}
}
