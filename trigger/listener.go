// Package trigger turns packets that the firewall logs into hits: it reads NFLOG, decodes and
// verifies the packets, and finds the process that sent each one.
package trigger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/florianl/go-nflog/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"culprit/internal/config"
	"culprit/internal/nfloggroup"
	"culprit/sensor"
)

// readBuffer is the size of the netlink socket's buffer, in bytes. At 100,000 packets a second
// the kernel's default loses some, and this does not.
const readBuffer = 8 << 20

// nflogPacket is one packet from NFLOG, or of another network namespace.
type nflogPacket struct {
	time     time.Time
	rule     string
	uid, gid *uint32 // nil: the kernel gave none
	device   uint32  // index of the output device; 0: unknown
	seq      *uint32 // of the message
	data     []byte
	other    *sensor.OtherPacket // the packet of another network namespace, which is for no rule yet
	from     sensor.From         // whose share such a packet takes
}

// Listener reads one NFLOG group.
type Listener struct {
	log   *slog.Logger
	nf    *nflog.Nflog
	proc  *processor
	queue chan nflogPacket
	// others are the packets of other network namespaces. A flood there must not take the place of our own in the queue.
	others    chan nflogPacket
	othersEnd chan struct{}         // closed when nobody sends there any more
	rules     chan map[string]*Rule // replace those in force
	turn      chan struct{}         // show that Run's loop turns
	failed    chan error
	stop      context.CancelFunc // ends the reading before the socket is closed

	dropped uint32 // as the kernel counts them, when Run asked last
	counts  counts
}

// counts are written by the reading goroutine and read by the processing one.
type counts struct {
	overruns atomic.Uint64 // times the socket's buffer overflowed (ENOBUFS)
	queue    atomic.Uint64 // packets dropped because the queue was full
}

// Listen binds the configured NFLOG group in the network namespace of the calling thread. From
// then on it reads packets, which wait in the queue for [Listener.Run]. What the kernel sees of
// their senders is asked of senders, which may be nil. The caller closes the Listener.
func Listen(c *config.Config, senders Senders, log *slog.Logger) (*Listener, error) {
	l := &Listener{
		log:    log,
		queue:  make(chan nflogPacket, c.NFLog.Queue),
		others: make(chan nflogPacket), othersEnd: make(chan struct{}),
		rules:  make(chan map[string]*Rule),
		turn:   make(chan struct{}),
		failed: make(chan error, 1),
	}
	var err error
	if l.proc, err = newProcessor(c, senders); err != nil {
		return nil, err
	}
	// No batching, as a packet must reach us before its sender is gone. (The rules ask for that
	// too: --nflog-threshold 1.) By the sequence numbers the sensor knows the packets.
	l.nf, err = nflog.Open(&nflog.Config{
		Group:    uint16(c.NFLog.Group),
		Copymode: nflog.CopyPacket,
		Bufsize:  uint32(c.NFLog.Snaplen),
		QThresh:  1,
		Flags:    nflog.FlagSeq,
		Logger:   noLogger{},
	})
	if err != nil {
		l.proc.close()
		return nil, fmt.Errorf("open NFLOG: %w: does the kernel have CONFIG_NETFILTER_NETLINK_LOG?", err)
	}
	if err := l.nf.Con.SetReadBuffer(readBuffer); err != nil {
		log.Warn("NFLOG keeps its small buffer and may lose packets in a flood", "error", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	unblock, err := blockPackets(l.nf.Con)
	if err == nil {
		if err = l.nf.RegisterWithErrorFunc(ctx, l.receive, func(err error) int { return l.readError(ctx, err) }); err == nil {
			err = unblock()
		}
	}
	if err != nil {
		l.Close()
		return nil, bindError(c.NFLog.Group, err)
	}
	return l, nil
}

// Cookie returns the cookie of the socket that reads the group (SO_COOKIE, man 7 socket), by which
// the kernel can tell it from all others.
func (l *Listener) Cookie() (cookie uint64, err error) {
	err = l.control(func(fd int) (err error) {
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the cookie of the NFLOG socket: %w", err)
	}
	return cookie, nil
}

// Close releases the group. Call it when Run has returned, or instead of it.
func (l *Listener) Close() error {
	l.stop()
	l.proc.close()
	return l.nf.Close()
}

// Run decides by the rules which packets are hits and gives them to out, on one goroutine, until the context
// ends and the queue is empty. It returns an error if reading ended before that.
func (l *Listener) Run(ctx context.Context, rules []Rule, out Output) error {
	l.proc.rules = byName(rules)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.proc.run(ctx, l, out) })
	g.Go(func() error { return l.readOthers(ctx) })
	g.Go(func() error {
		select {
		case err := <-l.failed:
			return err
		case <-ctx.Done():
			return nil
		}
	})
	return g.Wait()
}

// SetRules replaces the rules whose packets are hits, and waits until that is done.
// [Listener.Run] must be running.
func (l *Listener) SetRules(ctx context.Context, rules []Rule) error {
	select {
	case l.rules <- byName(rules):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Waiting returns the number of packets in the queue.
func (l *Listener) Waiting() int { return len(l.queue) }

// Turns waits for one turn of the loop of [Listener.Run], which shows that it is not stuck.
func (l *Listener) Turns(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receive takes each packet, on go-nflog's goroutine. It must never wait, or the kernel drops
// packets.
func (l *Listener) receive(a nflog.Attribute) int {
	now := time.Now() // the kernel gives no time in OUTPUT
	p := nflogPacket{time: now, uid: a.UID, gid: a.GID, seq: a.Seq}
	if a.Prefix != nil {
		p.rule = *a.Prefix
	}
	if a.OutDev != nil {
		p.device = *a.OutDev
	}
	if a.Payload != nil {
		p.data = *a.Payload
	}
	select {
	case l.queue <- p:
	default:
		l.counts.queue.Add(1)
	}
	return 0
}

// readError decides whether reading goes on; 0 means yes. An overrun is counted as a loss, any
// other error ends it.
func (l *Listener) readError(ctx context.Context, err error) int {
	if ctx.Err() != nil {
		return 1
	}
	if errors.Is(err, unix.ENOBUFS) {
		l.counts.overruns.Add(1)
		return 0
	}
	select {
	case l.failed <- fmt.Errorf("read NFLOG: %w", err):
	default:
	}
	return 1
}

// bindError explains why binding the group failed. The kernel answers EPERM both if another
// program reads the group (nfulnl_recv_config in net/netfilter/nfnetlink_log.c) and if we are
// not privileged. go-nflog keeps only the text of the error.
func bindError(group int, err error) error {
	switch {
	case !strings.Contains(err.Error(), unix.EPERM.Error()):
		return fmt.Errorf("bind NFLOG group %d: %w", group, err)
	case os.Geteuid() != 0:
		return fmt.Errorf("bind NFLOG group %d: %w: run as root", group, err)
	}
	who := "another program"
	if r, err := nfloggroup.Find(group); err == nil && r != nil {
		who = r.String()
	}
	return fmt.Errorf("bind NFLOG group %d: it already has a reader, %s: stop that one, or choose another nflog.group", group, who)
}

// noLogger drops go-nflog's own messages, as readError gets the same errors.
type noLogger struct{}

func (noLogger) Debugf(string, ...any) {}
func (noLogger) Errorf(string, ...any) {}
