package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"culprit/internal/bell"
	"culprit/internal/config"
	"culprit/internal/testkit"
	"culprit/internal/testkit/natsserver"
)

// renewed are numbers without events, which count how often they got another name.
type renewed struct {
	times   int
	because string
}

func (n *renewed) ID() string                 { return fmt.Sprint("ours", n.times) }
func (n *renewed) Last() uint64               { return 9 }
func (n *renewed) Renew(because string) error { n.times, n.because = n.times+1, because; return nil }
func (n *renewed) RenewedFor() string         { return n.because }
func (n *renewed) Events(context.Context, uint64, int, func(uint64, string) bool) error {
	return nil
}

// Who finds numbers of another evidence again, because a member of the cluster answers that does not have what was sent since, gives its own no
// other name again: it would not know what it has sent, and send it twice. Nor does it when it was restarted meanwhile.
func TestRenewOnce(t *testing.T) {
	t.Parallel()
	numbers := new(renewed)
	start := func() *Publisher {
		return &Publisher{conn: &Conn{}, numbers: numbers, log: slog.New(slog.DiscardHandler)}
	}
	p := start()
	message := func(outbox string, last int) *nats.Msg {
		return &nats.Msg{Header: nats.Header{HeaderOutbox: {outbox}, HeaderLast: {fmt.Sprint(last)}}}
	}
	for i, tc := range []struct {
		outbox string
		last   int
		id     string
		taken  uint64
	}{
		{"theirs", 5, "ours1", 0},
		{"theirs", 5, "ours1", 0},
		{"ours1", 7, "ours1", 7},
		{"theirs", 5, "ours1", 7},
		{"ours1", 10, "ours2", 7}, // more than was given here: of a copy
		{"ours1", 10, "ours2", 7},
		{"ours2", 8, "ours2", 8},
		{"others", 5, "ours3", 8},
	} {
		if err := p.compare(t.Context(), message(tc.outbox, tc.last)); err != nil {
			t.Fatal(err)
		}
		if numbers.ID() != tc.id || p.taken != tc.taken {
			t.Errorf("after answer %d the numbers are %s, the stream has %d, want %s and %d", i, numbers.ID(), p.taken, tc.id, tc.taken)
		}
		again := start()
		if err := again.compare(t.Context(), message(tc.outbox, tc.last)); err != nil {
			t.Fatal(err)
		}
		if numbers.ID() != tc.id {
			t.Errorf("after answer %d and a restart the numbers are %s, want %s", i, numbers.ID(), tc.id)
		}
	}
}

// A report that failed is tried again soon: it may be the only one that says something.
func TestReportAgain(t *testing.T) {
	t.Parallel()
	c := config.Fleet{Servers: []string{natsserver.Start(t, "").URL}, Name: "f", Host: "web1"}
	connect := func() *Conn {
		conn, err := Connect(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		return conn
	}
	host, operator := connect(), connect()
	host.Host = "web1"
	failed := bell.New()
	r := NewReporter(host, Status{Host: "web1", Machine: "m"}, func(*Status) {}, slog.New(slog.NewTextHandler(writer(failed.Ring), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case <-failed:
	case <-time.After(testkit.Patience):
		t.Fatal("it does not fail")
	}
	if _, err := operator.Setup(t.Context(), Plan{Replicas: 1, MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	hosts := operator.Name.Hosts()
	testkit.Eventually(t, "the report", func() error {
		_, err := operator.Last(t.Context(), hosts.Stream(), hosts.Subject("web1"))
		return err
	})
}

// writer is called when something is written.
type writer func()

func (w writer) Write(b []byte) (int, error) { w(); return len(b), nil }
