package selftest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"culprit/internal/proc"
)

// domain is the domain that is hunted. RFC 2606 keeps it out of real use.
const domain = "selftest.culprit.invalid"

// answerLimit is how long our own resolver may take to answer.
const answerLimit = 2 * time.Second

// Offender is a program that sends one DNS query and ends when it has the answer.
type Offender struct {
	Server    string // IP address
	Transport string // udp or tcp
	Label     string // part of the queried name
	Stay      bool   // live on until standard input ends
}

// Offend sends the query. The queried name tells when it was sent.
func Offend(o Offender, stdin io.Reader) error {
	addr, err := netip.ParseAddr(o.Server)
	if err != nil {
		return fmt.Errorf("send a query: %w", err)
	}
	conn, err := net.Dial(o.Transport, netip.AddrPortFrom(addr, 53).String())
	if err != nil {
		return fmt.Errorf("send a query: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return fmt.Errorf("send a query: %w", err)
	}
	msg, err := query(time.Now(), o.Label)
	if err != nil {
		return fmt.Errorf("make a query: %w", err)
	}
	if o.Transport == "tcp" {
		msg = append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
	}
	if _, err := conn.Write(msg); err != nil {
		return fmt.Errorf("send a query: %w", err)
	}
	if _, err := conn.Read(make([]byte, 512)); err != nil {
		return fmt.Errorf("wait for the answer to a query: %w", err)
	}
	if o.Stay {
		_, err = io.Copy(io.Discard, stdin)
	}
	return err
}

func query(sent time.Time, label string) ([]byte, error) {
	name, err := dnsmessage.NewName(fmt.Sprintf("t%d.%s.%s.", sent.UnixNano(), label, domain))
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(rand.N(1 << 16)), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

// parseName splits the name of a query.
func parseName(name string) (sent time.Time, label string, ok bool) {
	name, ours := strings.CutSuffix(name, "."+domain)
	stamp, label, two := strings.Cut(strings.TrimPrefix(name, "t"), ".")
	ns, err := strconv.ParseInt(stamp, 10, 64)
	return time.Unix(0, ns), label, ours && two && err == nil
}

// A way is how a query can be sent.
type way struct{ family, transport, server string }

var ways = []way{
	{"ipv4", "udp", "127.0.0.1"},
	{"ipv4", "tcp", "127.0.0.1"},
	{"ipv6", "udp", "::1"},
	{"ipv6", "tcp", "::1"},
}

// A sentQuery is a query that was sent.
type sentQuery struct {
	way
	label string
	pid   int // of the sender
}

// An offender is a process that we started and must wait for.
type offender struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr *bytes.Buffer
}

// offend starts an offender in the namespace of the calling thread, as the session's user. The
// caller waits for it.
func (s *session) offend(w way, stay bool) (*offender, sentQuery, error) {
	s.number++
	q := sentQuery{way: w, label: "n" + strconv.Itoa(s.number)}
	cmd := exec.Command("/proc/self/fd/3", "offender", "--server", w.server, "--transport", w.transport,
		"--label", q.label, "--stay="+strconv.FormatBool(stay))
	cmd.Dir, cmd.Env, cmd.ExtraFiles = "/", []string{}, []*os.File{s.file}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: s.uid, Gid: s.uid},
	}
	o := &offender{cmd: cmd, stderr: new(bytes.Buffer)}
	cmd.Stderr = o.stderr
	var err error
	if o.stdin, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, q, fmt.Errorf("start an offender as UID %d: %w", s.uid, err)
	}
	q.pid = cmd.Process.Pid
	return o, q, nil
}

// end lets the offender end, and says how it ended.
func (o *offender) end() error {
	o.stdin.Close()
	timer := time.AfterFunc(patience, func() { _ = o.cmd.Process.Kill() })
	defer timer.Stop()
	if err := o.cmd.Wait(); err != nil {
		return fmt.Errorf("an offender failed: %w: %s", err, bytes.TrimSpace(o.stderr.Bytes()))
	}
	return nil
}

// The UIDs that offenders can have: systemd leaves them unused (https://systemd.io/UIDS-GIDS),
// and they fit into a container's map.
const firstUID, lastUID = 60578, 61183

// unusedUID picks a UID without a name and without processes, because a capture traces all
// processes of a UID, and other people's are none of our business.
func unusedUID() (uint32, error) {
	pids, err := proc.Default.PIDs()
	if err != nil {
		return 0, fmt.Errorf("find a UID without processes: %w", err)
	}
	used := map[uint32]bool{}
	for _, pid := range pids {
		if st, err := proc.Default.Status(pid); err == nil { // otherwise it has just ended
			used[st.UID.Real], used[st.UID.Effective] = true, true
		}
	}
	const count = lastUID - firstUID + 1
	first := rand.N(uint32(count)) // another selftest may be running
	for i := range uint32(count) {
		uid := firstUID + (first+i)%count
		if _, err := user.LookupId(strconv.Itoa(int(uid))); err != nil && !used[uid] {
			return uid, nil
		}
	}
	return 0, errors.New("find a UID without processes: all from 60578 to 61183 are in use")
}
