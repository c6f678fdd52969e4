package test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"culprit/internal/event"
	"culprit/internal/words"
)

// proven fails the test unless a hit of this name is proven by a line of a trace
// whose system call holds the name, and returns it.
func (d *daemon) proven(t *testing.T, name string) event.Hit {
	t.Helper()
	hit := d.hit(name)
	p := hit.Culprit.Proof
	if p == nil || p.Probable {
		why := d.host.culprit("show", hit.Event.ID, "--evidence", d.evidence)
		t.Errorf("the hit of %s is not proven: %+v\n%s%s", name, p, why.out, why.errors)
		return hit
	}
	if hit.Culprit.Origin.Grade != event.GradeProof || hit.Process == nil {
		t.Errorf("%s is proven, but its origin is %+v", name, hit.Culprit.Origin)
	}
	traces := d.traces()
	i := slices.IndexFunc(traces, func(tr event.Trace) bool { return tr.Event.ID == p.Trace.ID })
	if i < 0 {
		t.Errorf("the proof of %s names a trace that is not there: %+v", name, p)
		return hit
	}
	tr := traces[i]
	if tr.User.ID != hit.User.ID || tr.Culprit.Capture.ID != hit.Culprit.Capture.ID {
		t.Errorf("the proof of %s names the trace %+v", name, tr)
	}
	if !slices.ContainsFunc(tr.Culprit.Proofs, func(of event.ProofDetail) bool { return of.Hit.ID == hit.Event.ID && of.Line == p.Line }) {
		t.Errorf("the trace of %s does not name it among its proofs: %+v", name, tr.Culprit.Proofs)
	}
	text, err := readFile(tr.File.Path)
	if err != nil {
		t.Error(err)
		return hit
	}
	first, _, _ := strings.Cut(name, ".")
	line, _, _ := strings.Cut(string(text[p.Offset:]), "\n")
	if got := strings.Count(string(text[:p.Offset]), "\n") + 1; int64(got) != p.Line {
		t.Errorf("the proof of %s has line %d, at its offset line %d begins", name, p.Line, got)
	}
	if !strings.Contains(line, first+`\7badzone\4test`) || !strings.Contains(line, p.Syscall) || !strings.HasPrefix(line, fmt.Sprintf("%d ", p.TID)) {
		t.Errorf("the proof of %s is %+v, which is the line\n%s", name, p, line)
	}
	return hit
}

// What can be done with the proof of a hit.
func TestProof(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(gated)
	uid := newUID()
	script := h.write("cron.php", `<?php gethostbyname("guilty.badzone.test"); exit(3);`)
	s := d.captured(uid)
	h.start(uid, "sh", "-c", "php -n "+script+"; true").wait()
	h.start(uid, programs.offenderC, "-n", "again.badzone.test", "-c", "1").wait()
	s.cmd.Process.Kill()
	d.awaitLog("proven")
	d.stop()

	hit := d.proven(t, "guilty.badzone.test")
	if p := hit.Process; p == nil || p.CommandLine != "php -n "+script || p.Parent == nil || p.Parent.CommandLine != "sh -c php -n "+script+"; true" {
		t.Errorf("the process of the proof is %+v", p)
	}
	d.proven(t, "again.badzone.test")

	show := func(id string, says ...string) {
		t.Helper()
		out := h.culprit("show", id, "--evidence", d.evidence).must(t)
		for _, want := range says {
			if !strings.Contains(out, want) {
				t.Errorf("show %s does not say %q:\n%s", id, want, out)
			}
		}
	}
	proof := hit.Culprit.Proof
	line := fmt.Sprintf("line %d", proof.Line)
	show(hit.Event.ID, "this line sent the packet: "+line, "origin       proof: this process sent the packet", "php -n "+script, "guilty\\7badzone\\4test", "> ")
	show(proof.Trace.ID, "proof        "+line, hit.Event.ID)
	// The first hit came before anything was traced.
	first := d.hits()[0]
	show(first.Event.ID, "proof        none: ")

	out := filepath.Join(t.TempDir(), "case.html")
	h.culprit("report", hit.Event.ID, "--evidence", d.evidence, "-o", out).must(t)
	html, err := os.ReadFile(out)
	if err != nil || !bytes.Contains(html, []byte("guilty.badzone.test")) || !bytes.Contains(html, []byte("cron.php")) {
		t.Errorf("the report is no report: %d bytes, %v", len(html), err)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the report is %v, %v", info.Mode(), err)
	}
	text := h.culprit("report", proof.Capture.ID, "--evidence", d.evidence, "--text").must(t)
	if !strings.Contains(text, "php -n") || !strings.Contains(text, `guilty\7badzone\4test`) {
		t.Errorf("the report as text is\n%s", text)
	}

	found := h.culprit("grep", "-F", `guilty\7badzone`, "--evidence", d.evidence).must(t)
	if !strings.Contains(found, fmt.Sprintf(":%d:", proof.Line)) {
		t.Errorf("grep does not find %s:\n%s", line, found)
	}
	if r := h.culprit("grep", "-F", "nobody wrote this", "--evidence", d.evidence); r.code != 1 || r.out != "" {
		t.Errorf("grep of what is not there: %+v", r)
	}
	h.bundle(t, d, proof.Capture.ID)

	// The same with compressed traces, in another place.
	if said := h.culprit("prune", "--evidence", d.evidence).must(t); !strings.Contains(said, "compressed") {
		t.Errorf("prune says %q", said)
	}
	if plain, err := filepath.Glob(d.evidence + "/traces/*/*.strace"); err != nil || len(plain) != 0 {
		t.Errorf("after prune there are %v", plain)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(d.evidence, moved); err != nil {
		t.Fatal(err)
	}
	d.evidence = moved
	show(hit.Event.ID, "this line sent the packet: "+line, "guilty\\7badzone\\4test", moved)
	if again := h.culprit("grep", "-F", `guilty\7badzone`, "--evidence", moved).must(t); again != found {
		t.Errorf("grep finds in compressed traces\n%s, it found\n%s", again, found)
	}
	h.bundle(t, d, proof.Capture.ID)
	h.provenAgain(t, d, hit)
}

// bundle exports a capture twice, verifies it, and verifies that a changed one is found out.
func (h *host) bundle(t *testing.T, d *daemon, capture string) {
	t.Helper()
	dir := t.TempDir()
	var bundles [2][]byte
	for i := range bundles {
		file := filepath.Join(dir, fmt.Sprint(i))
		h.culprit("export", capture, "--evidence", d.evidence, "-o", file).must(t)
		var err error
		if bundles[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		if said := h.culprit("verify", file).must(t); !strings.Contains(said, "all is as the manifest says") || !strings.Contains(said, capture) {
			t.Errorf("verify says\n%s", said)
		}
	}
	if !bytes.Equal(bundles[0], bundles[1]) {
		t.Errorf("two exports of the same capture differ: %d and %d bytes", len(bundles[0]), len(bundles[1]))
	}
	bad := bundles[0]
	bad[len(bad)/2] ^= 1
	h.culprit("verify", h.write("bad", string(bad))).fails(t, 1)
}

// provenAgain takes the proofs away and has them found anew, compressed traces
// included.
func (h *host) provenAgain(t *testing.T, d *daemon, hit event.Hit) {
	t.Helper()
	db := filepath.Join(d.evidence, "catalogue.db")
	h.Must(t, "python3", "-I", "-c", "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('DELETE FROM proofs'); c.commit()", db)
	if got := d.hit("guilty.badzone.test"); got.Culprit.Proof != nil {
		t.Fatalf("the proof is still there: %+v", got.Culprit.Proof)
	}
	said := h.culprit("prove", "--evidence", d.evidence).must(t)
	if !strings.Contains(said, "new proof") || strings.HasPrefix(said, "0 ") {
		t.Errorf("prove says %q", said)
	}
	got := d.hit("guilty.badzone.test").Culprit.Proof
	if got == nil || *got != *hit.Culprit.Proof {
		t.Errorf("now the proof is %+v, it was %+v", got, hit.Culprit.Proof)
	}
	if said := h.culprit("prove", "--evidence", d.evidence).must(t); !strings.HasPrefix(said, "0 new proofs") {
		t.Errorf("prove finds more each time: %s", said)
	}
}

// What a local resolver sends on is joined to the hit of the program that asked it,
// and is not captured.
func TestResolver(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	resolver, uid := newUID(), newUID()
	h.Do(func() { os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0) })
	dnsmasq := h.start(resolver, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=",
		"--no-resolv", "--no-hosts", "--cache-size=0", "--bind-interfaces", "--listen-address=127.0.0.53", "--server=127.0.0.1")
	eventually(t, "the second dnsmasq answers", func() error {
		if dnsmasq.ended() {
			t.Fatalf("dnsmasq ended: %s", dnsmasq.output)
		}
		_, err := h.Run(programs.offenderC, "-w", "-s", "127.0.0.53", "-n", "ready.test")
		return err
	})
	d := h.hunt(gated + fmt.Sprintf("guard: {resolvers: [\"%d\"]}\n", resolver))
	h.start(uid, programs.offenderC, "-w", "-s", "127.0.0.53", "-n", "asked.badzone.test").wait()
	var client, forwarded event.Hit
	eventually(t, "both hits are there", func() error {
		for _, hit := range d.hits() {
			switch hit.User.ID {
			case fmt.Sprint(uid):
				client = hit
			case fmt.Sprint(resolver):
				forwarded = hit
			}
		}
		if client.User == nil || forwarded.User == nil {
			return fmt.Errorf("there are %d hits", len(d.hits()))
		}
		return nil
	})
	if from := forwarded.Culprit.ForwardedFrom; from == nil || from.ID != client.Event.ID || forwarded.Culprit.Capture != nil {
		t.Errorf("the resolver's hit is %+v, want it to be forwarded from %s", forwarded.Culprit, client.Event.ID)
	}
	if client.Culprit.Capture == nil || client.Culprit.ForwardedFrom != nil {
		t.Errorf("the program's hit is %+v", client.Culprit)
	}
	out := h.culprit("show", client.Event.ID, "--evidence", d.evidence).must(t)
	if !strings.Contains(out, "forwarded by") || !strings.Contains(out, forwarded.Event.ID) {
		t.Errorf("show of the program's hit:\n%s", out)
	}
	out = h.culprit("show", forwarded.Event.ID, "--evidence", d.evidence).must(t)
	if !strings.Contains(out, "for the program of hit "+client.Event.ID) {
		t.Errorf("show of the resolver's hit:\n%s", out)
	}
	if report := h.culprit("report", client.Event.ID, "--evidence", d.evidence, "--text").must(t); !strings.Contains(strings.Join(strings.Fields(report), " "), fmt.Sprintf("forwarded by %d to 127.0.0.1:53", resolver)) {
		t.Errorf("the report does not say who forwarded the question:\n%s", report)
	}
	// Without a packet of the program the hit says so.
	h.start(resolver, programs.offenderC, "-n", "alone.badzone.test").wait()
	if alone := d.hit("alone.badzone.test"); alone.Culprit.ForwardedFrom != nil || !strings.Contains(words.NoCapture(alone.Culprit.NoCapture), "UNIX socket") {
		t.Errorf("a resolver's hit that nobody asked for: %+v", alone.Culprit)
	}
	if cs := d.captures(); len(cs) != 1 {
		t.Errorf("%d captures, want that of the program", len(cs))
	}
	d.stop()
	dnsmasq.signal(syscall.SIGTERM)
}

// The packets of a capture can be read by other tools.
func TestPackets(t *testing.T) {
	t.Parallel()
	h := newHost(t, "")
	d := h.hunt(gated)
	uid := newUID()
	d.captured(uid)
	h.start(uid, programs.offenderC, "-n", "seen.badzone.test").wait()
	d.hit("seen.badzone.test")
	d.awaitLog("proven")
	d.stop()
	hit := d.proven(t, "seen.badzone.test")
	file := filepath.Join(d.evidence, "traces", hit.Culprit.Capture.ID, "packets.pcapng")
	out := h.Must(t, "tshark", "-r", file, "-T", "fields", "-e", "dns.qry.name", "-e", "frame.comment")
	found := false
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		if name, comment, _ := strings.Cut(lines.Text(), "\t"); name == "seen.badzone.test" {
			found = true
			if !strings.Contains(comment, "badzone") || !strings.Contains(comment, fmt.Sprint(hit.Culprit.Proof.Line)) {
				t.Errorf("the comment of the packet is %q", comment)
			}
		}
	}
	if !found {
		t.Errorf("tshark shows\n%s", out)
	}
}
