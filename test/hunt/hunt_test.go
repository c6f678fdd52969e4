package hunt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
	"culprit/internal/testkit"
	"culprit/internal/words"
	"culprit/test/harness"
)

// An offender reads names from its standard input and looks each up.
type offender struct {
	name    string
	command []string
	exit    int
	udpOnly bool
}

// readNames is a shell loop around a program that does one lookup and ends.
func readNames(program string) []string {
	return []string{"sh", "-c", "while read -r n; do " + program + " >/dev/null 2>&1; done; exit 7"}
}

func offenders(server, transport string) []offender {
	tcp := map[string]string{"tcp": "-t"}[transport]
	dig := []string{"dig", "+tries=1", "+time=5", "-f", "-"}
	if transport == "tcp" {
		dig = slices.Insert(dig, 1, "+tcp")
	}
	static := fmt.Sprintf(" -n $n -s %s %s -w", server, tcp)
	return []offender{
		{name: "php-gethostbyname", exit: 7, command: []string{"php", "-n", "-r", `while (($n = fgets(STDIN)) !== false) gethostbyname(trim($n)); exit(7);`}},
		{name: "php-dns-get-record", exit: 7, command: []string{"php", "-n", "-r", `while (($n = fgets(STDIN)) !== false) dns_get_record(trim($n), DNS_A); exit(7);`}},
		{name: "python-getaddrinfo", exit: 7, command: []string{"python3", "-I", "-S", "-c", `
import socket, sys
for n in sys.stdin: socket.getaddrinfo(n.strip(), 80)
sys.exit(7)`}},
		{name: "dig", command: dig},
		{name: "curl", exit: 7, command: readNames("curl -m 5 http://$n:9/")},
		{name: "busybox-nslookup", exit: 7, udpOnly: true, command: readNames("busybox nslookup $n")},
		{name: "offender-go", exit: 7, command: readNames(harness.Programs.OffenderGo + static)},
		{name: "offender-c", exit: 7, command: readNames(harness.Programs.OffenderC + static)},
	}
}

// The whole hunt: programs of two users look names up beside those of a third.
func TestHunt(t *testing.T) {
	t.Parallel()
	for _, backend := range testkit.Backends {
		for _, server := range []string{"127.0.0.1", "::1"} {
			for _, transport := range []string{"udp", "tcp"} {
				family := map[string]string{"127.0.0.1": "ipv4", "::1": "ipv6"}[server]
				t.Run(backend+"-"+family+"-"+transport, func(t *testing.T) {
					t.Parallel()
					hunt{harness.NewHost(t, backend), server, family, transport}.run(t)
				})
			}
		}
	}
}

type hunt struct {
	*harness.Host
	server, family, transport string
}

func (h hunt) run(t *testing.T) {
	// "use-vc" makes all that uses libc's resolver ask over TCP.
	h.Resolver(h.server, map[string]string{"tcp": "options use-vc"}[h.transport])
	before := h.Firewall()
	d := h.Hunt(harness.LongWindow)

	a, b, innocent := harness.NewUID(), harness.NewUID(), harness.NewUID()
	good := h.StartAs(innocent, "sh", "-c", "while :; do "+harness.Programs.OffenderC+" -n x.goodzone.test -w -s "+h.server+"; sleep 0.05; done")
	lives := h.Sender(innocent)
	lives.Ask("y.goodzone.test")
	check := harness.NeverTraced(t, good.PID, lives.PID, d.PID, os.Getpid())

	type suspect struct {
		offender
		*harness.Process
		uid uint32
	}
	var all []suspect
	var ps []*harness.Process
	for i, o := range offenders(h.server, h.transport) {
		if o.udpOnly && h.transport != "udp" {
			continue
		}
		uid := []uint32{a, b}[i%2]
		p := h.StartAs(uid, o.command[0], o.command[1:]...)
		all = append(all, suspect{o, p, uid})
		ps = append(ps, p)
	}
	look := func(n int) {
		t.Helper()
		for _, s := range all {
			s.Say(fmt.Sprintf("%s-%d.badzone.test", s.name, n))
		}
		for _, s := range all {
			hit := d.Hit(fmt.Sprintf("%s-%d.badzone.test", s.name, n))
			if hit.User == nil || hit.User.ID != fmt.Sprint(s.uid) {
				t.Errorf("the hit of %s has the user %v, want %d", s.name, hit.User, s.uid)
			}
		}
	}
	look(1)
	harness.Traced(t, ps...)
	look(2) // now each of them is traced while it sends
	lives.Ask("z.goodzone.test")
	for _, s := range all {
		s.Stdin.Close()
		if got := s.Wait(); got != s.exit {
			t.Fatalf("%s ended with %d, want %d: %s", s.name, got, s.exit, s.Output)
		}
	}
	for _, s := range all {
		tr := d.Trace(s.PID, "has ended", harness.Ended)
		if tr.User.ID != fmt.Sprint(s.uid) {
			t.Errorf("the trace of %s has the user %v, want %d", s.name, tr.User, s.uid)
		}
		if tr.Process.ExitCode == nil || *tr.Process.ExitCode != s.exit {
			t.Errorf("the trace of %s has the exit status %v, want %d", s.name, tr.Process.ExitCode, s.exit)
		}
		head, foot, body := harness.ReadTrace(t, tr.File.Path)
		if got, want := head["command line"], strings.ReplaceAll(strings.Join(s.command, " "), "\n", `\n`); got != want {
			t.Errorf("the trace of %s has the command line\n%s, want\n%s", s.name, got, want)
		}
		if got := foot["exit status"]; got != fmt.Sprint(s.exit) {
			t.Errorf("the trace of %s says exit status %q, want %d", s.name, got, s.exit)
		}
		// A call that another thread's interrupts is printed when it resumes.
		sent := regexp.MustCompile(fmt.Sprintf(`(?m)^\d+ +[\d.]+ (<\.\.\. )?(send|sendto|sendmsg|sendmmsg|write|writev)(\(| resumed>).*%s-2\\7badzone\\4test`, s.name))
		if !sent.MatchString(body) {
			t.Errorf("no line of %s's trace sends its second query (want %s):\n%s", s.name, sent, networkLines(body))
		}
	}
	check()
	d.Stop()
	for _, s := range all {
		d.Proven(t, s.name+"-2.badzone.test")
	}
	h.Unchanged(before, "after the hunt")
	h.checkEvidence(t, d, map[string]bool{fmt.Sprint(a): true, fmt.Sprint(b): true})
}

func networkLines(body string) string {
	var b strings.Builder
	for line := range strings.Lines(body) {
		if strings.Contains(line, "badzone") || strings.Contains(line, "socket(") || strings.Contains(line, "exec") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// checkEvidence checks that everything kept belongs together, whatever it is.
func (h hunt) checkEvidence(t *testing.T, d *harness.Daemon, users map[string]bool) {
	captures := map[string]event.Capture{}
	for _, c := range d.Captures() {
		captures[c.Event.ID] = c
		if !users[c.User.ID] {
			t.Errorf("a capture of user %v", &c.User)
		}
		if c.Culprit.State != event.StateEnded || c.Culprit.EndedBecause == nil {
			t.Errorf("after the hunt a capture is %+v", c.Culprit)
		}
	}
	if len(captures) != len(users) {
		t.Errorf("%d captures, want one a user: %d", len(captures), len(users))
	}
	hits := map[string]event.Hit{}
	for _, hit := range d.Hits() {
		hits[hit.Event.ID] = hit
		if hit.User == nil || !users[hit.User.ID] {
			t.Errorf("a hit of user %v: %+v", hit.User, hit)
			continue
		}
		if hit.Rule.Name != "badzone" || hit.Network.Type != h.family || hit.Network.Transport != h.transport {
			t.Errorf("want rule badzone, %s, %s: %+v", h.family, h.transport, hit)
		}
		if hit.Source.IP.String() != h.server || hit.Source.Port == 0 || hit.Destination.IP.String() != h.server || hit.Destination.Port != 53 {
			t.Errorf("a hit from %v to %v, want %s to port 53", hit.Source, hit.Destination, h.server)
		}
		if hit.DNS == nil || !strings.HasSuffix(hit.DNS.Question.Name, ".badzone.test") {
			t.Errorf("a hit asks for %s", hit.Asks())
		}
		if hit.Culprit.Capture == nil {
			t.Errorf("hit %s has no capture: %s", hit.Event.ID, hit.Culprit.NoCapture)
		} else if c, ok := captures[hit.Culprit.Capture.ID]; !ok || c.User.ID != hit.User.ID {
			t.Errorf("hit %s of user %v names the capture %+v", hit.Event.ID, hit.User, c)
		}
	}
	files := map[string]bool{}
	for _, tr := range d.Traces() {
		files[tr.File.Path] = true
		h.checkTrace(t, tr, captures, hits)
	}
	err := filepath.WalkDir(d.Evidence, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if want := map[bool]fs.FileMode{true: fs.ModeDir | 0o700, false: 0o600}[e.IsDir()]; info.Mode() != want {
			t.Errorf("%s has the mode %v, want %v", path, info.Mode(), want)
		}
		if strings.HasSuffix(path, ".strace") && !files[path] {
			t.Errorf("%s is in no trace of the catalogue", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// checkTrace checks that a trace, its file, its hit and its capture agree.
func (h hunt) checkTrace(t *testing.T, tr event.Trace, captures map[string]event.Capture, hits map[string]event.Hit) {
	if tr.Culprit.Hit == nil {
		t.Errorf("trace %s names no hit", tr.Event.ID)
		return
	}
	hit, ok := hits[tr.Culprit.Hit.ID]
	if !ok || hit.User.ID != tr.User.ID || hit.Culprit.Capture.ID != tr.Culprit.Capture.ID {
		t.Errorf("trace %s of user %v names the hit %+v", tr.Event.ID, &tr.User, hit)
		return
	}
	if c, ok := captures[tr.Culprit.Capture.ID]; !ok || c.User.ID != tr.User.ID {
		t.Errorf("trace %s of user %v names the capture %+v", tr.Event.ID, &tr.User, c)
	}
	head, foot, body := harness.ReadTrace(t, tr.File.Path)
	for key, want := range map[string]string{
		"culprit trace": tr.Event.ID,
		"capture":       fmt.Sprintf("%s of user %v", tr.Culprit.Capture.ID, &tr.User),
		"hit":           fmt.Sprintf("%s at %s, rule badzone", hit.Event.ID, hit.Timestamp.Format(time.RFC3339Nano)),
		"packet": fmt.Sprintf("%s %v -> %v, dns id %s asks %s %s",
			h.transport, hit.Source, hit.Destination, hit.DNS.ID, hit.DNS.Question.Name, hit.DNS.Question.Type),
	} {
		if head[key] != want {
			t.Errorf("%s: the header has\n# %s: %s\nwant\n# %s: %s", tr.File.Path, key, head[key], key, want)
		}
	}
	if !strings.HasPrefix(head["process"], fmt.Sprintf("%d, started ", tr.Process.PID)) {
		t.Errorf("%s: the header has the process %q, want %d", tr.File.Path, head["process"], tr.Process.PID)
	}
	if foot["ended"] != words.TraceEnded(tr.Culprit.EndedBecause) || foot["bytes dropped"] != fmt.Sprint(tr.Culprit.Lost) {
		t.Errorf("%s: the footer has %v, want what the catalogue has: %+v", tr.File.Path, foot, tr.Culprit)
	}
	exit := "not seen"
	if tr.Process.ExitCode != nil {
		exit = fmt.Sprint(*tr.Process.ExitCode)
	}
	if foot["exit status"] != exit {
		t.Errorf("%s: the footer has the exit status %q, want %s", tr.File.Path, foot["exit status"], exit)
	}
	if body == "" {
		t.Errorf("%s holds nothing", tr.File.Path)
	}
	if text, err := harness.ReadFile(tr.File.Path); err != nil || int64(len(text)) != tr.File.Size {
		t.Errorf("%s: the catalogue says %d bytes, it has %d (%v)", tr.File.Path, tr.File.Size, len(text), err)
	}
}

// A process that lives on with its socket is known for sure, with all that led to it.
func TestOrigin(t *testing.T) {
	t.Parallel()
	for sensor, grade := range map[string]event.Grade{"auto": event.GradeKernel, "off": event.GradeSocket} {
		t.Run(sensor, func(t *testing.T) {
			t.Parallel()
			origin(t, sensor, grade)
		})
	}
}

func origin(t *testing.T, sensor string, grade event.Grade) {
	h := harness.NewHost(t, "")
	d := h.Hunt("sensor: " + sensor + "\n" + harness.LongWindow)
	for name, program := range map[string]string{"c": harness.Programs.OffenderC, "go": harness.Programs.OffenderGo} {
		for _, server := range []string{"127.0.0.1", "::1"} {
			for _, flags := range [][]string{nil, {"-t"}} {
				uid := harness.NewUID()
				asked := fmt.Sprintf("%s-%s-%d.badzone.test", name, map[bool]string{true: "four", false: "six"}[server == "127.0.0.1"], len(flags))
				p := h.StartAs(uid, program, append([]string{"-n", asked, "-s", server, "-a", "600000", "-r"}, flags...)...)
				hit := d.Hit(asked)
				if hit.Culprit.Origin.Grade != grade || hit.Process == nil {
					t.Errorf("%v: the origin is %+v, want the grade %s", p.Cmd.Args, hit.Culprit.Origin, grade)
					continue
				}
				got := hit.Process
				if got.PID != p.PID || got.Executable != program || got.CommandLine != strings.Join(p.Cmd.Args, " ") || got.WorkingDirectory != "/" {
					t.Errorf("the origin of %v (%d) is %+v", p.Cmd.Args, p.PID, got)
				}
				if got.RealUser == nil || got.RealUser.ID != fmt.Sprint(uid) {
					t.Errorf("the origin of %v has the user %v, want %d", p.Cmd.Args, got.RealUser, uid)
				}
				if age := time.Since(got.Start); age < 0 || age > 2*harness.Patience {
					t.Errorf("the origin of %v started %v ago", p.Cmd.Args, age)
				}
				if got.Parent == nil || got.Parent.PID != os.Getpid() {
					t.Errorf("the parent of %v is %+v, want this test, %d", p.Cmd.Args, got.Parent, os.Getpid())
				}
				for got.Parent != nil {
					got = got.Parent
				}
				if got.PID != 1 {
					t.Errorf("the parents of %v end with %d, want 1", p.Cmd.Args, got.PID)
				}
				// What the program says of its packet is what the hit says.
				said := fmt.Sprintf("port=%d id=%s\n", hit.Source.Port, hit.DNS.ID)
				harness.Eventually(t, "the offender reports", func() error {
					if p.Output.String() == "" {
						return errors.New("it has not")
					}
					return nil
				})
				if p.Output.String() != said {
					t.Errorf("%v said %q, the hit says %q", p.Cmd.Args, p.Output, said)
				}
				// The trace of the process belongs to its own hit.
				if tr := d.Trace(p.PID, "is there", nil); tr.Culprit.Hit == nil || tr.Culprit.Hit.ID != hit.Event.ID {
					t.Errorf("the trace of %v names the hit %v, want %s", p.Cmd.Args, tr.Culprit.Hit, hit.Event.ID)
				}
			}
		}
	}
	d.Stop()
}
