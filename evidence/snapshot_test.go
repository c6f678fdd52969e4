package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/dossier"
	"culprit/evidence/dossier/bundle"
	"culprit/evidence/dossier/report"
	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
	"culprit/internal/redact"
)

// A snapshot is found by itself, named by its hit and its trace, in the report and the export,
// with the copy of its executable.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	c := fixture.Capture(event.StateEnded)
	h := fixture.Hit("7", "a")
	h.Culprit.Capture.ID = c.Event.ID
	tr := aTrace(s, t, c.Event.ID, h.Event.ID, event.StateEnded)
	snap := fixture.Snapshot(c.Event.ID, h.Event.ID, tr.Event.ID)
	unread := snap
	unread.Culprit.Incomplete = []event.Incomplete{{Part: event.PartExecutable, Reason: event.Reason[event.IncompleteCode]{Code: event.IncompleteUnfinished}}}
	s.Capture(c)
	s.Hit(h)
	s.Trace(tr)
	s.Snapshot(unread)
	const program = "\x7fELF what the intruder ran"
	sum, file, err := s.KeepExecutable(strings.NewReader(program), 1000)
	if err != nil {
		t.Fatal(err)
	}
	snap.Process.Hash, snap.Culprit.KeptExecutable = &event.Hash{SHA256: sum}, &file
	s.Snapshot(snap)
	again, same, err := s.KeepExecutable(strings.NewReader(program), 1000)
	if again != sum || same != file || err != nil {
		t.Errorf("kept again as %s, %+v, %v", again, same, err)
	}
	if _, _, err := s.KeepExecutable(strings.NewReader(program), 5); !errors.Is(err, directory.ErrTooLarge) {
		t.Errorf("one that is too large: %v", err)
	}
	if known, ok := s.Executable(sum); known != file || !ok {
		t.Errorf("%+v, %v", known, ok)
	}
	if _, ok := s.Executable(strings.Repeat("0", 64)); ok {
		t.Error("an executable that nobody kept")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	info, err := os.Stat(file.Path)
	if err != nil || info.Mode() != 0o600 || filepath.Base(file.Path) != sum || file.Size != int64(len(program)) {
		t.Errorf("the copy %+v: %v, %v", file, info, err)
	}
	if files, _ := os.ReadDir(filepath.Join(dir, directory.Executables)); len(files) != 1 {
		t.Errorf("files %v", files)
	}
	r := reader(t, dir)
	if d := cmp.Diff([]event.Snapshot{snap}, fixture.All(t, r.Snapshots(catalogue.Filter{Capture: c.Event.ID}))); d != "" {
		t.Error(d)
	}
	found, err := r.Find(snap.Event.ID)
	if err != nil || found.Snapshot == nil || found.Document() != any(found.Snapshot) {
		t.Errorf("found %+v, %v", found, err)
	}
	if of, err := r.CaptureOf(snap.Event.ID); err != nil || of.Event.ID != c.Event.ID {
		t.Errorf("its capture is %+v, %v", of, err)
	}
	for _, hit := range fixture.All(t, r.Hits(catalogue.Filter{})) {
		if hit.Culprit.Snapshot == nil || hit.Culprit.Snapshot.ID != snap.Event.ID {
			t.Errorf("the hit names %+v", hit.Culprit.Snapshot)
		}
	}
	for _, trace := range fixture.All(t, r.Traces(catalogue.Filter{})) {
		if trace.Culprit.Snapshot == nil || trace.Culprit.Snapshot.ID != snap.Event.ID {
			t.Errorf("the trace names %+v", trace.Culprit.Snapshot)
		}
	}
	rc, err := dossier.Case(r, c)
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := report.Text(&page, rc); err != nil || !strings.Contains(page.String(), sum[:40]) || strings.Contains(page.String(), "\x1b") {
		t.Errorf("report: %v\n%s", err, &page)
	}
	var packed bytes.Buffer
	if _, gone, err := dossier.Export(r, &packed, &c); err != nil || len(gone) > 0 {
		t.Fatalf("export: %q, %v", gone, err)
	}
	checked, err := bundle.Verify(&packed)
	if err != nil || !checked.OK() {
		t.Fatalf("%+v, %v", checked, err)
	}
	var names []string
	for _, f := range checked.Manifest.Files {
		names = append(names, f.Path)
	}
	if !slices.Contains(names, "executables/"+sum) || !slices.Contains(names, "snapshots.jsonl") {
		t.Errorf("the bundle has %q", names)
	}
}

// Everything in a snapshot that a process says is masked: also what needs two arguments to be
// recognised, and the end of what was cut.
func TestSnapshotIsMasked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	patterns, wrong := redact.Compile([]string{"hunter2", `--password (\S+)`, "key-[a-z]{300}"})
	if wrong != nil {
		t.Fatal(wrong)
	}
	s, err := Open(dir, fixture.Log, Masking(patterns))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 500) + "key-" + strings.Repeat("q", 100) + "…"
	snap := fixture.Snapshot("C", "H", "T")
	p, d := &snap.Process, &snap.Culprit
	p.CommandLine, p.Executable, p.WorkingDirectory, p.Name = "php hunter2", "/hunter2", "/hunter2", "hunter2"
	p.Parent = &event.Process{PID: 1, CommandLine: "sh hunter2"}
	p.Args = []string{"php", "--password", "s3cret", "", "a", long}
	p.EnvVars = []string{"PASS=hunter2", long}
	d.Cgroup = "/hunter2"
	d.Maps[0].Path, d.Files[0].Path, d.Sockets[0].Local, d.Sockets[0].Remote = "/hunter2", "/hunter2", "@hunter2", "/hunter2"
	d.Stack[0].Function, d.Stack[0].Module, d.Replaceable.Detail = "hunter2", "/hunter2", "/hunter2"
	d.Miss(event.PartFiles, event.IncompleteFailed, "open hunter2")
	before, _ := json.Marshal(snap)
	s.Snapshot(snap)
	after, _ := json.Marshal(snap)
	if !bytes.Equal(before, after) {
		t.Error("masking changes the document, which others read")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := fixture.All(t, reader(t, dir).Snapshots(catalogue.Filter{}))[0]
	b, _ := json.Marshal(got)
	for _, secret := range []string{"hunter2", "s3cret", "key-", "qqq"} {
		if strings.Contains(string(b), secret) {
			t.Errorf("%q is in %s", secret, b)
		}
	}
	if want := []string{"php", "--password", "******", "", "a"}; !slices.Equal(got.Process.Args[:5], want) {
		t.Errorf("arguments %q", got.Process.Args)
	}
	if len(got.Process.EnvVars[1]) != len(long) || !strings.HasPrefix(got.Process.EnvVars[1], "xxxx") {
		t.Errorf("a long one became %q", got.Process.EnvVars[1])
	}
}
