package catalogue

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"culprit/evidence/directory"
	"culprit/evidence/internal/fixture"
	"culprit/internal/event"
)

// open opens the catalogue in dir, with its lock, until the test ends or the returned
// function is called.
func open(t testing.TB, dir string, outbox *Outbox) (c *Catalogue, left Left, done func()) {
	t.Helper()
	d, err := directory.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Lock(); err != nil {
		t.Fatal(err)
	}
	if c, left, err = Open(d, boxes(outbox), fixture.Log); err != nil {
		t.Fatal(err)
	}
	done = func() {
		t.Helper()
		if err := errors.Join(c.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	}
	return c, left, done
}

func reader(t testing.TB, dir string) *Reader {
	t.Helper()
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// write writes hits in one transaction, so that their order is that of the batch.
func write(t testing.TB, c *Catalogue, hits ...*event.Hit) {
	t.Helper()
	b := NewBatch()
	for _, h := range hits {
		b.Hit(h)
	}
	if err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, _, done := open(t, dir, nil)
	var ids []string
	for i := range 6 {
		h := fixture.Hit([]string{"7", "8"}[i%2], []string{"a", "b", "c"}[i%3])
		if i == 5 {
			h.User, h.Culprit.Capture = nil, nil
			h.Culprit.Listed = &event.Listed{File: "/lists/feed.txt", Line: 7}
			h.Threat = event.NewThreat(*h.Culprit.Listed, "badzone.test", "C2")
		}
		if i == 3 || i == 4 {
			h.Container = &event.Container{ID: []string{"0a1b2c", "ff"}[i-3], Name: "cart", Image: &event.Image{Name: "quay.io/cart:3"}}
			h.Orchestrator = &event.Orchestrator{Namespace: []string{"web", "test"}[i-3], Resource: event.Resource{Name: "shop", ID: fmt.Sprint("p", i)}}
		}
		if i == 4 {
			h.Container.Parent = &event.Container{ID: "0a1b2c", Name: "outer"}
		}
		h.DNS.Question.Name = []string{"", "y.evil.example", "evil.example", "notevil.example", "evil.example.test", "sch\u00f6n.z.evil.example"}[i]
		ids = append(ids, h.Event.ID)
		write(t, c, h)
	}
	done()
	r := reader(t, dir)
	seven := uint32(7)
	tests := map[string]struct {
		f    Filter
		want []int
	}{
		"all":          {Filter{}, []int{0, 1, 2, 3, 4, 5}},
		"user":         {Filter{UID: &seven}, []int{0, 2, 4}},
		"rule":         {Filter{Rule: "c"}, []int{2, 5}},
		"user + rule":  {Filter{UID: &seven, Rule: "c"}, []int{2}},
		"capture":      {Filter{Capture: "C"}, []int{0, 1, 2, 3, 4}},
		"last":         {Filter{Last: 2}, []int{4, 5}},
		"since":        {Filter{Since: time.Now().Add(-time.Minute)}, []int{0, 1, 2, 3, 4, 5}},
		"since future": {Filter{Since: time.Now().Add(time.Minute)}, nil},
		"list":         {Filter{List: "feed.txt"}, []int{5}},
		"path of list": {Filter{List: "/lists/feed.txt", Rule: "c"}, []int{5}},
		"another list": {Filter{List: "feed"}, nil},
		"injection":    {Filter{Rule: "a' OR '1'='1"}, nil},
		"container":    {Filter{Place: Place{Container: "cart"}}, []int{3, 4}},
		"its id":       {Filter{Place: Place{Container: "ff"}}, []int{4}},
		"no container": {Filter{Place: Place{Container: "%"}}, nil},
		"around it":    {Filter{Place: Place{Container: "outer"}}, []int{4}},
		"+ rule":       {Filter{Place: Place{Container: "0a1"}, Rule: "a"}, []int{3}},
		"outer's id":   {Filter{Place: Place{Container: "0a1b2"}}, []int{3, 4}},
		"pod":          {Filter{Place: Place{Pod: "shop"}}, []int{3, 4}},
		"one pod":      {Filter{Place: Place{Pod: "web/shop"}}, []int{3}},
		"pod's id":     {Filter{Place: Place{Pod: "p4"}}, []int{4}},
		"name":         {Filter{Name: "Evil.example."}, []int{1, 2, 5}},
		"name + user":  {Filter{Name: "evil.example", UID: &seven, Last: 1}, []int{2}},
		"a whole name": {Filter{Name: "sch\u00f6n.z.evil.example"}, []int{5}},
		"half a name":  {Filter{Name: "vil.example"}, nil},
		"no name":      {Filter{Name: "%"}, nil},
		"image":        {Filter{Place: Place{Image: "Quay.io/cart"}, Rule: "a"}, []int{3}},
	}
	check := func(r *Reader, kind string) {
		t.Helper()
		for name, tt := range tests {
			var got, want []string
			for _, h := range fixture.All(t, r.Hits(tt.f)) {
				got = append(got, h.Event.ID)
			}
			many := r.planned(tt.f) // as if many had what is asked for
			many.common, many.contained, many.ofList = tt.f.Name != "", false, false
			q, args := many.query("hits", "id")
			if d := cmp.Diff(fixture.All(t, rows(r, q, args, func(id *string, scan func(...any) error) error { return scan(id) })), got); d != "" {
				t.Errorf("%s, %s, common: %s", kind, name, d)
			}
			for _, i := range tt.want {
				want = append(want, ids[i])
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s, %s: %s", kind, name, d)
			}
			if !tt.f.Since.IsZero() || tt.f.Last > 0 {
				continue
			}
			now, n := time.Now(), 0
			counts, err := r.Counts(tt.f, now.Add(-time.Hour), now.Add(time.Hour), 7)
			for _, one := range counts {
				n += one
			}
			if err != nil || n != len(want) || counts[3] != n {
				t.Errorf("%s, %s: counted %v, %v", kind, name, counts, err)
			}
		}
	}
	check(r, "of a host")
	c, _, done = open(t, dir, nil)
	defer done()
	if err := c.index(); err != nil {
		t.Fatal(err)
	}
	if f := r.planned(Filter{Place: Place{Container: "cart"}, List: "feed.txt"}); !f.contained || !f.ofList || !f.few() {
		t.Errorf("a mirror does not use its indices: %+v", f)
	}
	check(r, "of a mirror")
}

func TestNothingThere(t *testing.T) {
	t.Parallel()
	if _, err := OpenReader(t.TempDir()); err == nil || !strings.Contains(err.Error(), "has culprit run") {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, fileName), []byte("this is no data base at all, not even nearly"), 0o600)
	if _, err := OpenReader(dir); err == nil || !strings.Contains(err.Error(), fileName) {
		t.Errorf("got %v", err)
	}
}

// The process that the proof names wins over the one that held the socket, which is
// not hidden.
func TestDisagreement(t *testing.T) {
	t.Parallel()
	h := fixture.Hit("7", "a")
	h.Process, h.Culprit.Origin = &event.Process{PID: 50}, event.Origin{Grade: event.GradeSocket}
	if err := addProof(h, `{"process": {"pid": 60}, "culprit": {"line": 3}}`); err != nil {
		t.Fatal(err)
	}
	if o := h.Culprit.Origin; h.Process.PID != 60 || o.Grade != event.GradeProof || len(o.Processes) != 1 || o.Processes[0].PID != 50 || *o.Reason != (event.Unattributed{Code: event.UnattributedHolder, Detail: "50"}) {
		t.Errorf("process %+v, origin %+v", h.Process, o)
	}
	h.Culprit.Origin, h.Process = event.Origin{Grade: event.GradeSocket}, &event.Process{PID: 50}
	if err := addProof(h, `{"process": {"pid": 60}, "culprit": {"line": 3, "probable": true}}`); err != nil || h.Process.PID != 50 || h.Culprit.Origin.Grade != event.GradeSocket {
		t.Errorf("a probable proof changes the origin: %+v, %v", h.Culprit.Origin, err)
	}
	h.Culprit.Origin, h.Culprit.Sent = event.Origin{Grade: event.GradeKernel}, &event.Sent{TID: 50}
	if err := addProof(h, `{"process": {"pid": 60}, "culprit": {"line": 3, "kernel": true}}`); err != nil || h.Process.PID != 50 || h.Culprit.Origin.Grade != event.GradeProof || h.Culprit.Origin.Reason != nil {
		t.Errorf("a proof names another process than the kernel: %+v, %+v, %v", h.Process, h.Culprit.Origin, err)
	}
}

// A catalogue of the first version is brought up to date, and nothing is lost.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	db, err := sql.Open("sqlite", filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	h := fixture.Hit("7", "a")
	_, err = db.Exec(schema+"PRAGMA user_version = 1; INSERT INTO hits VALUES (?, 'a', 7, 'C', 1, ?, x'45')", h.Event.ID, document(h))
	// Reasons were sentences then.
	if err == nil {
		_, err = db.Exec(`INSERT INTO losses VALUES ('1L', 'hits dropped: nflog.rate was reached', 3, '{"event":{"id":"1L"},"culprit":{"what":"hits dropped: nflog.rate was reached","count":3}}');
			INSERT INTO captures VALUES ('1C', 'a', 7, 'ended', '{"event":{"id":"1C"},"user":{"id":"7"},"culprit":{"state":"ended","ended_because":"its time was up","missed":{"no trace file":2}}}')`)
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader(dir); err == nil || !strings.Contains(err.Error(), "culprit run") {
		t.Errorf("a reader of the old version: %v", err)
	}
	for range 2 {
		_, _, done := open(t, dir, nil)
		done()
	}
	for _, f := range []Filter{{}, {Name: "x.badzone.test"}, {Name: "test"}} {
		if hits := fixture.All(t, reader(t, dir).Hits(f)); len(hits) != 1 || hits[0].Event.ID != h.Event.ID {
			t.Errorf("the hits of %+v are %+v", f, hits)
		}
	}
	r := reader(t, dir)
	if ls := fixture.All(t, r.Losses(Filter{})); len(ls) != 1 || ls[0].Culprit != (event.LossDetail{Code: event.LossRate, Count: 3}) {
		t.Errorf("the losses are %+v", ls)
	}
	cs := fixture.All(t, r.Captures(Filter{}))
	if len(cs) != 1 || *cs[0].Culprit.EndedBecause != (event.Ended{Code: event.EndedTime}) || cs[0].Culprit.Missed[event.UntracedNoFile] != 2 {
		t.Errorf("the captures are %+v", cs)
	}
}

// boxes are the outboxes of a catalogue: one, or none.
func boxes(o *Outbox) []*Outbox {
	if o == nil {
		return nil
	}
	return []*Outbox{o}
}
