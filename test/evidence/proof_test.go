package evidence

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/test/harness"
)

// What can be done with the proof of a hit.
func TestProof(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	script := h.Write("cron.php", `<?php gethostbyname("guilty.badzone.test"); exit(3);`)
	s := d.Captured(uid)
	h.StartAs(uid, "sh", "-c", "php -n "+script+"; true").Wait()
	h.StartAs(uid, harness.Programs.OffenderC, "-n", "again.badzone.test", "-c", "1").Wait()
	s.Cmd.Process.Kill()
	d.AwaitLog("proven")
	d.Stop()

	hit := d.Proven(t, "guilty.badzone.test")
	if p := hit.Process; p == nil || p.CommandLine != "php -n "+script || p.Parent == nil || p.Parent.CommandLine != "sh -c php -n "+script+"; true" {
		t.Errorf("the process of the proof is %+v", p)
	}
	d.Proven(t, "again.badzone.test")

	show := func(id string, says ...string) {
		t.Helper()
		out := h.Culprit("show", id, "--evidence", d.Evidence).Must(t)
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
	// The first hit came before anything was traced: its line is what the kernel saw.
	first := d.Hits()[0]
	show(first.Event.ID, "the kernel saw this call send the packet")

	out := filepath.Join(t.TempDir(), "case.html")
	h.Culprit("report", hit.Event.ID, "--evidence", d.Evidence, "-o", out).Must(t)
	html, err := os.ReadFile(out)
	if err != nil || !bytes.Contains(html, []byte("guilty.badzone.test")) || !bytes.Contains(html, []byte("cron.php")) {
		t.Errorf("the report is no report: %d bytes, %v", len(html), err)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the report is %v, %v", info.Mode(), err)
	}
	text := h.Culprit("report", proof.Capture.ID, "--evidence", d.Evidence, "--text").Must(t)
	if !strings.Contains(text, "php -n") || !strings.Contains(text, `guilty\7badzone\4test`) {
		t.Errorf("the report as text is\n%s", text)
	}

	found := h.Culprit("grep", "-F", `guilty\7badzone`, "--evidence", d.Evidence).Must(t)
	if !strings.Contains(found, fmt.Sprintf(":%d:", proof.Line)) {
		t.Errorf("grep does not find %s:\n%s", line, found)
	}
	if r := h.Culprit("grep", "-F", "nobody wrote this", "--evidence", d.Evidence); r.Code != 1 || r.Out != "" {
		t.Errorf("grep of what is not there: %+v", r)
	}
	bundle(t, h, d, proof.Capture.ID)

	// The same with compressed traces, in another place.
	if said := h.Culprit("prune", "--evidence", d.Evidence).Must(t); !strings.Contains(said, "compressed") {
		t.Errorf("prune says %q", said)
	}
	if plain, err := filepath.Glob(d.Evidence + "/traces/*/*.strace"); err != nil || len(plain) != 0 {
		t.Errorf("after prune there are %v", plain)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(d.Evidence, moved); err != nil {
		t.Fatal(err)
	}
	d.Evidence = moved
	show(hit.Event.ID, "this line sent the packet: "+line, "guilty\\7badzone\\4test", moved)
	if again := h.Culprit("grep", "-F", `guilty\7badzone`, "--evidence", moved).Must(t); again != found {
		t.Errorf("grep finds in compressed traces\n%s, it found\n%s", again, found)
	}
	bundle(t, h, d, proof.Capture.ID)
	provenAgain(t, h, d, hit)
}

// bundle exports a capture twice, verifies it, and verifies that a changed one is found out.
func bundle(t *testing.T, h *harness.Host, d *harness.Daemon, capture string) {
	t.Helper()
	dir := t.TempDir()
	var bundles [2][]byte
	for i := range bundles {
		file := filepath.Join(dir, fmt.Sprint(i))
		h.Culprit("export", capture, "--evidence", d.Evidence, "-o", file).Must(t)
		var err error
		if bundles[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		if said := h.Culprit("verify", file).Must(t); !strings.Contains(said, "intact, as the manifest says") || !strings.Contains(said, capture) {
			t.Errorf("verify says\n%s", said)
		}
	}
	if !bytes.Equal(bundles[0], bundles[1]) {
		t.Errorf("two exports of the same capture differ: %d and %d bytes", len(bundles[0]), len(bundles[1]))
	}
	bad := bundles[0]
	bad[len(bad)/2] ^= 1
	h.Culprit("verify", h.Write("bad", string(bad))).Fails(t, 1)
}

// provenAgain takes the proofs away and has them found anew, compressed traces
// included.
func provenAgain(t *testing.T, h *harness.Host, d *harness.Daemon, hit event.Hit) {
	t.Helper()
	db := filepath.Join(d.Evidence, "catalogue.db")
	h.Must(t, "python3", "-I", "-c", "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('DELETE FROM proofs'); c.commit()", db)
	if got := d.Hit("guilty.badzone.test"); got.Culprit.Proof != nil {
		t.Fatalf("the proof is still there: %+v", got.Culprit.Proof)
	}
	said := h.Culprit("prove", "--evidence", d.Evidence).Must(t)
	if !strings.Contains(said, "new proof") || strings.HasPrefix(said, "0 ") {
		t.Errorf("prove says %q", said)
	}
	got := d.Hit("guilty.badzone.test").Culprit.Proof
	if !reflect.DeepEqual(got, hit.Culprit.Proof) {
		t.Errorf("now the proof is %+v, it was %+v", got, hit.Culprit.Proof)
	}
	if said := h.Culprit("prove", "--evidence", d.Evidence).Must(t); !strings.HasPrefix(said, "0 new proofs") {
		t.Errorf("prove finds more each time: %s", said)
	}
}

// The packets of a capture can be read by other tools.
func TestPackets(t *testing.T) {
	t.Parallel()
	h := harness.NewHost(t, "")
	d := h.Hunt(harness.Gated)
	uid := harness.NewUID()
	d.Captured(uid)
	h.StartAs(uid, harness.Programs.OffenderC, "-n", "seen.badzone.test").Wait()
	d.Hit("seen.badzone.test")
	d.AwaitLog("proven")
	d.Stop()
	hit := d.Proven(t, "seen.badzone.test")
	file := filepath.Join(d.Evidence, "traces", hit.Culprit.Capture.ID, "packets.pcapng")
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
