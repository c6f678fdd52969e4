package containers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/event"
	"culprit/internal/words"
	"culprit/test/harness"
)

// shown checks that everything that shows a proven hit says which container it is out of, and that it is found by that.
func shown(t *testing.T, d *harness.Daemon, hit event.Hit) {
	t.Helper()
	c := hit.Container
	filters := [][]string{{"--container", c.Label()}, {"--container", c.ID[:min(12, len(c.ID))]}}
	if c.Image != nil {
		filters = append(filters, []string{"--image", strings.ToUpper(c.Image.Name), "--container", c.ID})
	}
	if o := hit.Orchestrator; o != nil {
		filters = append(filters, []string{"--pod", o.Resource.ID})
		if o.Resource.Name != "" {
			filters = append(filters, []string{"--pod", o.Resource.Name})
		}
	}
	for _, flags := range filters {
		hits := d.Hits(flags...)
		for _, got := range hits {
			if got.Container.ID != c.ID {
				t.Errorf("%v: a hit of %+v", flags, got.Container)
			}
		}
		if len(hits) == 0 {
			t.Errorf("no hits with %v", flags)
		}
	}
	says := func(what, text string, wanted ...string) {
		t.Helper()
		for _, w := range wanted {
			if !strings.Contains(text, w) {
				t.Errorf("%s does not say %q:\n%s", what, w, text)
			}
		}
	}
	culprit := func(args ...string) string {
		t.Helper()
		return d.Host.Culprit(append(args, "--evidence", d.Evidence)...).Must(t)
	}
	named := words.Container(&hit.Place)
	says("the table", culprit("hits", "--container", c.ID), "CONTAINER", words.Place(&hit.Place), hit.User.String())
	says("culprit show", culprit("show", hit.Event.ID), named)
	says("the trace", culprit("show", hit.Culprit.Proof.Trace.ID), named)
	head, _, _ := harness.ReadTrace(t, d.Trace(hit.Process.PID, "is written", func(event.Trace) bool { return true }).File.Path)
	says("the header of the trace", head["container"], named)
	page := filepath.Join(d.Host.Dir, hit.Event.ID+".html")
	culprit("report", hit.Culprit.Capture.ID, "--output", page)
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	says("the report", string(text), named)
	packets := filepath.Join(d.Evidence, "traces", hit.Culprit.Capture.ID, "packets.pcapng")
	says("the comment of the packet", d.Host.Must(t, "tshark", "-r", packets, "-T", "fields", "-e", "frame.comment"), "container: "+named)
}
