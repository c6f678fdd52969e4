package bench

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"culprit/internal/testkit"
)

// An offender is a process of its own, and of a user of its own, that sends DNS
// queries when told to. Each query asks for another name, which says when it was
// sent, so all of them are hits and tell how long they took.
type offender struct {
	*exec.Cmd
	say     *os.File
	answers *bufio.Reader
}

// What an offender does with its sockets.
const (
	oneSocket    = "one"    // one for all
	newSockets   = "open"   // one for each query, open until the next
	shortSockets = "closed" // one for each query, closed at once
)

// offenderEnv makes the test program an offender.
const offenderEnv = "CULPRIT_BENCH_OFFENDER"

func TestMain(m *testing.M) {
	if os.Getenv(offenderEnv) == "" {
		os.Exit(m.Run())
	}
	if err := offend(); err != nil {
		fmt.Fprintln(os.Stderr, "offender:", err)
		os.Exit(1)
	}
}

// offend answers each line "COUNT PER-SECOND SOCKETS ZONE" by sending and then
// saying how many nanoseconds that took, until there are no more.
func offend() error {
	var conn net.Conn
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var count, perSecond int
		var sockets, zone string
		if _, err := fmt.Sscan(lines.Text(), &count, &perSecond, &sockets, &zone); err != nil {
			return err
		}
		query, begin := newQuery(zone), time.Now()
		for i := range count {
			if perSecond > 0 {
				due := begin.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
				if wait := time.Until(due); wait > time.Millisecond {
					time.Sleep(wait)
				}
			}
			if conn == nil || sockets != oneSocket {
				if conn != nil {
					conn.Close()
				}
				var err error
				if conn, err = net.Dial("udp4", "127.0.0.1:53"); err != nil {
					return err
				}
			}
			query.stamp(time.Now())
			if _, err := conn.Write(query); err != nil {
				return err
			}
			if sockets == shortSockets {
				conn.Close()
			}
		}
		fmt.Println(time.Since(begin).Nanoseconds())
	}
	return nil
}

// A query is a DNS message that asks for q<TIME>.ZONE.test.
type query []byte

// Where the time is in a query and in the name it asks for, and its length: a
// UnixNano has 19 digits until the year 2286.
const (
	stampInQuery, stampInName = 12 + 2, 1
	stampLen                  = 19
)

func newQuery(zone string) query {
	const header = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	return fmt.Appendf(nil, "%s%cq%0*d%c%s\x04test\x00\x00\x01\x00\x01", header, 1+stampLen, stampLen, 0, len(zone), zone)
}

func (q query) stamp(t time.Time) {
	strconv.AppendInt(q[stampInQuery:stampInQuery], t.UnixNano(), 10)
}

// stampOf reads when the query for a name was sent.
func stampOf(name string) (time.Time, error) {
	if len(name) < stampInName+stampLen {
		return time.Time{}, fmt.Errorf("%q has no time in it", name)
	}
	ns, err := strconv.ParseInt(name[stampInName:stampInName+stampLen], 10, 64)
	return time.Unix(0, ns), err
}

// newOffender starts an offender of a UID in the namespace. It ends with the
// benchmark, or when killed.
func newOffender(b *testing.B, n *testkit.Net, uid int) *offender {
	b.Helper()
	// The program's own path may lie in directories that only root can read.
	o := &offender{Cmd: asUser(uid, "/proc/self/exe")}
	o.Env = append(os.Environ(), offenderEnv+"=1")
	o.Stderr = os.Stderr
	stdin, say, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	hear, stdout, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	o.Stdin, o.Stdout, o.say, o.answers = stdin, stdout, say, bufio.NewReader(hear)
	err = n.Start(o.Cmd)
	stdin.Close()
	stdout.Close()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		say.Close()
		o.Wait() // again, if it was killed; that does no harm
		hear.Close()
	})
	o.answer(b)
	return o
}

// answer reads one line.
func (o *offender) answer(b *testing.B) string {
	b.Helper()
	line, err := o.answers.ReadString('\n')
	if err != nil {
		b.Fatal("the offender says nothing: ", err)
	}
	return line[:len(line)-1]
}

// send makes it send so many queries that match the rule, at most so many a
// second (0: as fast as it can). It returns how long that took.
func (o *offender) send(b *testing.B, count, perSecond int, sockets string) time.Duration {
	b.Helper()
	return o.sendZone(b, count, perSecond, sockets, "badzone")
}

func (o *offender) sendZone(b *testing.B, count, perSecond int, sockets, zone string) time.Duration {
	b.Helper()
	fmt.Fprintln(o.say, count, perSecond, sockets, zone)
	ns, err := strconv.ParseInt(o.answer(b), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(ns)
}

// untraced is configuration that keeps straces off offenders, so that the figures
// are not those of a sender slowed down.
func untraced(b *testing.B) string {
	b.Helper()
	path, err := os.Executable()
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		b.Fatal(err)
	}
	return "guard: {never_executables: [" + strconv.Quote(path) + "]}\n"
}
