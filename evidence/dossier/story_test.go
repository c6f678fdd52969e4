package dossier

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culprit/internal/event"
)

// The steps are of all traces that have the packet or begin later, the answer of the look-back if it has one, and connections of
// whichever shows them.
func TestTell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sent := time.Unix(1_700_000_000, 0)
	const (
		answer  = `812 1700000000.001000 recvfrom(3<UDP:[127.0.0.1:4000->127.0.0.1:53]>, "\0\7\201\200\0\1\0\1\0\0\0\0\1x\4test\0\0\1\0\1\300\f\0\1\0\1\0\0\0\0\0\4\300\0\2\7", 512, 0, NULL, NULL) = 40`
		connect = `812 1700000002.000000 connect(4<TCP:[17]>, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.7")}, 16) = 0`
	)
	trace := func(id string, from, to time.Duration, detail event.TraceDetail, lines ...string) event.Trace {
		path := filepath.Join(dir, id)
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		end := sent.Add(to)
		detail.State = event.StateEnded
		return event.Trace{
			Timestamp: sent.Add(from), Event: event.Meta{ID: id, End: &end}, Process: event.Process{PID: 812, EntityID: "812-1"},
			File: event.File{Path: path}, Culprit: detail,
		}
	}
	opened := func(at float64, what string) string {
		return fmt.Sprintf(`812 %.6f openat(AT_FDCWD, "/%s", O_RDONLY) = 3`, float64(sent.Unix())+at, what)
	}
	back := func(continues string) event.TraceDetail {
		d := event.TraceDetail{LookBack: &event.LookBack{}}
		if continues != "" {
			d.LookBack.Continues = &event.Reference{ID: continues}
		}
		return d
	}
	early := trace("early", -10*time.Second, -9*time.Second, back(""), opened(-10, "early"))
	its := trace("its", -time.Second, time.Second, back("early"), opened(-1, "its"), answer)
	byStrace := trace("strace", 0, time.Minute, event.TraceDetail{}, opened(0.0005, "strace"), answer, connect)
	late := trace("late", time.Second, time.Minute, event.TraceDetail{}, connect)
	gone := trace("gone", -time.Minute, time.Minute, event.TraceDetail{Removed: &event.Removed{Code: event.RemovedKeep}}, opened(-60, "gone"))
	other := trace("other", -time.Minute, time.Minute, event.TraceDetail{}, opened(-60, "other"))
	other.Process.EntityID = "812-9"
	for name, tt := range map[string]struct {
		traces []event.Trace
		want   string
	}{
		"all":              {[]event.Trace{early, other, byStrace, gone, its}, "/its, /strace, 192.0.2.7 by its, connections 1 by strace"},
		"only a look-back": {[]event.Trace{its}, "/its, 192.0.2.7 by its, connections 0"},
		"only strace":      {[]event.Trace{byStrace}, "/strace, 192.0.2.7 by strace, connections 1 by strace"},
		"attached later":   {[]event.Trace{late, its}, "/its, 192.0.2.7 by its, connections 1 by late"},
		"an early one":     {[]event.Trace{early}, "/early, none in its traces: it came later"},
		"removed":          {[]event.Trace{gone}, "no story, not known: its trace was removed"},
		"another's":        {[]event.Trace{other}, "no story, not known: its process has no trace"},
	} {
		h := &event.Hit{
			Timestamp: sent, Event: event.Meta{ID: "H"}, Process: &event.Process{PID: 812, EntityID: "812-1"},
			DNS:         &event.DNS{ID: "7", Question: event.Question{Name: "x.test", Type: "A", Class: "IN"}},
			Destination: event.Endpoint{IP: netip.MustParseAddr("127.0.0.1"), Port: 53},
		}
		got := "no story"
		if s := tell([]*event.Hit{h}, tt.traces); s != nil {
			got = s.Steps[0].Object
		}
		if a := h.Culprit.Answer; a != nil {
			got += fmt.Sprintf(", %v by %s, connections %d", h.DNS.ResolvedIP[0], a.Trace.ID, len(a.Connections))
			for _, c := range a.Connections {
				got += " by " + c.Trace.ID
			}
		} else {
			got += ", " + unanswered(h, tt.traces)
		}
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
