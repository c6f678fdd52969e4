package sensor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/test/harness"
)

// cron starts the cron daemon with one job, of a user with that name, which runs at once. The job is
// of the test alone: nothing of the machine's own is run.
func cron(t *testing.T, h *harness.Host, user string, uid uint32, job string) {
	t.Helper()
	program, err := exec.LookPath("cron")
	if err != nil {
		t.Skip("this test needs cron")
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	h.Bind(t, "/etc/passwd", fmt.Sprintf("%s%s:*:%d:%d::/:/bin/sh\n", passwd, user, uid, uid))
	for _, table := range []string{"/etc/crontab", "/etc/cron.d"} {
		st, err := os.Stat(table)
		switch {
		case err != nil:
		case st.IsDir():
			h.Must(t, "mount", "-t", "tmpfs", "none", table)
		default:
			h.Bind(t, table, "")
		}
	}
	h.Must(t, "mount", "-t", "tmpfs", "none", "/run")
	h.Must(t, "mount", "-t", "tmpfs", "none", "/var/spool")
	h.Do(func() {
		tables := "/var/spool/cron/crontabs"
		if err = os.MkdirAll(tables, 0o755); err != nil {
			return
		}
		table := filepath.Join(tables, user)
		if err = os.WriteFile(table, []byte("@reboot "+job+"\n"), 0o600); err == nil {
			err = unix.Chown(table, int(uid), int(uid))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	h.StartAs(0, program, "-f")
}

// web listens at the address that names of the tests are told, until the test ends.
func web(t *testing.T, h *harness.Host) {
	t.Helper()
	h.Must(t, "ip", "address", "add", "192.0.2.1/32", "dev", "lo")
	h.StartAs(0, "python3", "-m", "http.server", "-b", "192.0.2.1", "-d", h.Dir, "80")
	harness.Eventually(t, "the web server answers", func() error {
		_, err := h.Run("curl", "-s", "-o", "/dev/null", "http://192.0.2.1/")
		return err
	})
}

// shown returns the document of a hit as show prints it.
func shown(t *testing.T, d *harness.Daemon, id string) (hit event.Hit) {
	t.Helper()
	out := d.Host.Culprit("show", "--json", "--evidence", d.Evidence, id).Must(t)
	if err := json.Unmarshal([]byte(out), &hit); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return hit
}

// tracesEnded waits until the sender of a hit has so many traces, and all have ended. Strace may come when the look-back has ended.
func tracesEnded(t *testing.T, d *harness.Daemon, h *event.Hit, traces int) {
	t.Helper()
	harness.Eventually(t, "its traces have ended", func() error {
		n := 0
		for _, tr := range d.Traces() {
			if h.Process == nil || tr.Process.EntityID != h.Process.EntityID {
				continue
			}
			if n++; !harness.Ended(tr) {
				return fmt.Errorf("%s has not", tr.File.Path)
			}
		}
		if n < traces {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
}

// inOrder fails the test unless a text has all that is wanted, one after the other, whatever the breaks
// of lines are.
func inOrder(t *testing.T, what, text string, want ...string) {
	t.Helper()
	rest := strings.Join(strings.Fields(text), " ")
	for _, w := range want {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Errorf("%s has no %q where it should:\n%s", what, w, text)
			return
		}
		rest = after
	}
}

// The very first lookup of a script that cron starts, on a machine where nothing happened before: show
// and report tell its story, from the execve to the connection that followed.
func TestStory(t *testing.T) {
	t.Parallel()
	const name = "told.badzone.test"
	h := harness.NewHost(t, "")
	web(t, h)
	conf := h.Write("job.conf", "host="+name+"\n")
	script := h.Write("job.sh", "#!/bin/sh\n. "+conf+"\ncurl -s -o /dev/null http://$host/\nexit 3\n")
	d := h.Hunt(harness.Gated + remembering)
	cron(t, h, "web1", harness.NewUID(), script)
	hit := d.Hit(name)
	harness.Eventually(t, "the first packet is proven", func() error {
		if hit = d.Hit(name); hit.Culprit.Proof == nil {
			return errors.New("it is not proven")
		}
		return nil
	})
	tracesEnded(t, d, &hit, 2)
	story := []string{
		"became `/bin/sh -c " + script + "`", "started process", "became `", script + "`", "opened `" + script + ", " + conf + "`",
		"became `curl -s -o /dev/null http://" + name + "/`", "/etc/resolv.conf",
		"> 0", "asked 127.0.0.1:53 for `" + name + " A", "was told by 127.0.0.1:53 that `" + name + "` is 192.0.2.1",
		"connect to `192.0.2.1:80`", "sent", "to `192.0.2.1:80` beginning \"GET / HTTP/1.1", "exited with 0",
	}
	inOrder(t, "show", h.Culprit("show", "--evidence", d.Evidence, hit.Event.ID).Must(t),
		append([]string{"was told 192.0.2.1", "then connected to 192.0.2.1:80 over TCP, and sent", "cron"}, story...)...)
	inOrder(t, "the report", h.Culprit("report", "--text", "--evidence", d.Evidence, hit.Event.ID).Must(t),
		append([]string{"asked for `" + name + "`", "The program was `curl", "It was told `192.0.2.1`, and", "later connected to 192.0.2.1:80", "Started by", "/bin/sh -c", "cron -f"}, story...)...)
	inOrder(t, "the export's hits", h.Must(t, "sh", "-c", harness.Programs.Culprit+" export --evidence "+d.Evidence+" "+hit.Event.ID+" --output - | zstd -dc | tar -xO --wildcards '*hits.jsonl'"),
		`"resolved_ip":["192.0.2.1"]`, `"connections":[`)
	of := shown(t, d, hit.Event.ID)
	if got := fmt.Sprint(of.DNS.ResponseCode, of.DNS.ResolvedIP); got != "NOERROR[192.0.2.1]" {
		t.Errorf("the document says that it was told %s", got)
	}
	if a := of.Culprit.Answer; a == nil || len(a.Connections) == 0 || a.Server.String() != "127.0.0.1:53" {
		t.Errorf("the document says that it was answered %+v", a)
	}
	d.Stop()
}

// What programs are told is read from their lines, however they ask and are answered, before strace is on
// them and when it is.
func TestTold(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	h.Must(t, "ip", "address", "add", "192.0.2.1/32", "dev", "lo")
	h.StartAs(0, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--no-resolv", "--no-hosts",
		"--bind-interfaces", "--listen-address=127.0.0.9", "--address=/gone.badzone.test/", "--host-record=target.example,192.0.2.1",
		"--cname=alias.badzone.test,target.example", "--txt-record=text.badzone.test,run this")
	harness.Eventually(t, "the other server answers", func() error {
		_, err := h.Run(harness.Programs.OffenderC, "-w", "-s", "127.0.0.9", "-n", "gone.badzone.test")
		return err
	})
	for name, config := range map[string]string{"look-back": harness.Gated + remembering, "strace": harness.Gated} {
		t.Run(name, func(t *testing.T) {
			d := h.Hunt(config)
			told(t, d, name == "look-back")
			d.Stop()
		})
	}
}

// told starts programs that ask, one after the other.
func told(t *testing.T, d *harness.Daemon, back bool) {
	const to = "192.0.2.1:9"
	h, traces := d.Host, 1
	if back {
		traces = 2
	}
	offender := harness.Programs.OffenderC
	for name, tt := range map[string]struct {
		command   string // for sh; $n is the name
		ask       string
		want      string // the response, and the addresses
		connects  bool
		unwritten string // why there is no answer
	}{
		"curl":       {command: "curl -s -m 5 http://$n:9/", want: "NOERROR [192.0.2.1]", connects: true},
		"php":        {command: `php -r "@fsockopen('$n', 9);"`, want: "NOERROR [192.0.2.1]", connects: true},
		"python":     {command: `python3 -I -S -c "import socket; socket.create_connection(('$n', 9))"`, want: "NOERROR [192.0.2.1]", connects: true},
		"busybox":    {command: "busybox wget -O /dev/null http://$n:9/", want: "NOERROR [192.0.2.1]", connects: true},
		"dig":        {command: "dig +short $n", want: "NOERROR [192.0.2.1]"},
		"go":         {command: harness.Programs.OffenderGo + " -w -n $n", want: "NOERROR [192.0.2.1]"},
		"tcp":        {command: harness.Programs.OffenderGo + " -t -w -n $n", want: "NOERROR [192.0.2.1]"},
		"an alias":   {command: offender + " -w -s 127.0.0.9 -n $n", ask: "alias.badzone.test", want: "NOERROR [192.0.2.1]"},
		"gone":       {command: offender + " -w -s 127.0.0.9 -n $n", ask: "gone.badzone.test", want: "NXDOMAIN []"},
		"refused":    {command: offender + " -w -s 127.0.0.9 -n $n", ask: "no.badzone.test", want: "REFUSED []"},
		"text":       {command: "dig +short -t txt @127.0.0.9 $n", ask: "text.badzone.test", want: "NOERROR []"},
		"not heard":  {command: offender + " -x -n $n", unwritten: "none in its traces"},
		"io_uring":   {command: offender + " -w -y io_uring -n $n", want: "NOERROR [192.0.2.1]"},
		"by a child": {command: offender + " -w -n $n -e /bin/sh -c 'curl -s -m 5 http://192.0.2.1:9/; :'", want: "NOERROR [192.0.2.1]", connects: true},
	} {
		t.Run(name, func(t *testing.T) {
			ask := tt.ask
			if ask == "" {
				ask = strings.ReplaceAll(name, " ", "-") + ".badzone.test"
			}
			h.StartAs(harness.NewUID(), "/bin/sh", "-c", "n="+ask+"; exec "+tt.command).Wait()
			first := d.Hit(ask)
			tracesEnded(t, d, &first, traces)
			text := h.Culprit("show", "--evidence", d.Evidence, first.Event.ID).Must(t)
			hit := shown(t, d, first.Event.ID)
			if tt.unwritten != "" {
				if hit.Culprit.Answer != nil {
					t.Errorf("it was told %+v", hit.DNS)
				}
				inOrder(t, "show", text, "answer "+tt.unwritten)
				return
			}
			if got := fmt.Sprintln(hit.DNS.ResponseCode, hit.DNS.ResolvedIP); got != tt.want+"\n" || hit.Culprit.Answer == nil {
				t.Fatalf("it was told %swant %s\n%s", got, tt.want, text)
			}
			inOrder(t, "show", text, "was told ")
			// What look-back and strace both have is told once.
			if step := fmt.Sprintf("that `%s` is 192.0.2.1 [", ask); back && strings.Count(text, step) > 1 {
				t.Errorf("it was told more than once:\n%s", text)
			}
			connected := false
			for _, c := range hit.Culprit.Answer.Connections {
				connected = connected || c.Destination.String() == to && c.Transport == "tcp" && c.Child == strings.HasPrefix(name, "by")
			}
			if connected != tt.connects {
				t.Errorf("connected: %v, want %v: %+v\n%s", connected, tt.connects, hit.Culprit.Answer, text)
			}
		})
	}
}
