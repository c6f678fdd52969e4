package daemon

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"

	"culprit/daemon/metrics"
	"culprit/internal/config"
)

// registered returns the metrics of a daemon, by name.
func registered(t testing.TB) map[string]*dto.MetricFamily {
	t.Helper()
	n := noCounts()
	n.configured(&config.Config{Rules: []config.Rule{{Name: "badzone"}}})
	n.Lists([]metrics.List{{Rule: "feed"}})
	families, err := n.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*dto.MetricFamily{}
	for _, f := range families {
		all[f.GetName()] = f
	}
	return all
}

// labels returns the labels of a metric, in order.
func labels(f *dto.MetricFamily) (names []string) {
	for _, l := range f.GetMetric()[0].GetLabel() {
		names = append(names, l.GetName())
	}
	slices.Sort(names)
	return names
}

// docs/metrics.md has every metric with its type and labels, and no others.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all := registered(t)
	// Loops are only asked if somebody reads the metrics.
	all["culprit_loop_last_turn_timestamp_seconds"] = nil
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(culprit_\\w+)` \\| (\\w+) \\| ([\\w, ]*)\\| (.+) \\| (.*)\\|$").FindAllStringSubmatch(string(text), -1) {
		name := m[1]
		f, there := all[name]
		switch {
		case documented[name]:
			t.Errorf("%s is documented twice", name)
		case !there:
			t.Errorf("%s is documented, but there is none", name)
		case f == nil:
		case strings.ToLower(f.GetType().String()) != m[2]:
			t.Errorf("%s is called a %s, it is a %s", name, m[2], f.GetType())
		default:
			said := strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' || r == ' ' })
			slices.Sort(said)
			if got := labels(f); !slices.Equal(said, got) {
				t.Errorf("%s has the labels %v, documented are %v", name, got, said)
			}
			for _, one := range f.GetMetric() {
				for _, l := range one.GetLabel() {
					if value := l.GetValue(); slices.Contains([]string{"reason", "found_by", "origin", "certainty", "file"}, l.GetName()) && !strings.Contains(m[0], "`"+value+"`") {
						t.Errorf("%s does not explain %s %q", name, l.GetName(), value)
					}
				}
			}
		}
		documented[name] = true
	}
	for name := range all {
		if strings.HasPrefix(name, "culprit_") && !documented[name] {
			t.Errorf("%s is not documented", name)
		} else if !strings.HasPrefix(name, "culprit_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s: neither ours nor of Go or the process", name)
		}
	}
}

var metricName = regexp.MustCompile(`\b(?:culprit|process|go)_[a-z0-9_]+`)

// uses checks that an expression of PromQL uses only existing metrics, and returns them.
func uses(t *testing.T, all map[string]*dto.MetricFamily, where, expr string) (names []string) {
	t.Helper()
	for _, name := range metricName.FindAllString(expr, -1) {
		base := name
		if _, ok := all[name]; !ok {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if f := all[base]; f == nil || f.GetType() != dto.MetricType_HISTOGRAM {
				t.Errorf("%s: there is no %s", where, name)
			}
		}
		names = append(names, base)
	}
	return names
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	all := registered(t)
	all["culprit_loop_last_turn_timestamp_seconds"] = nil
	n := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			n++
			uses(t, all, r.Alert, r.Expr)
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["action"] == "" {
				t.Errorf("%s says not how bad it is, what it is or what to do: %+v", r.Alert, r)
			}
		}
	}
	if n == 0 {
		t.Error("there are no alerts")
	}
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	type source struct{ Type, UID string }
	var board struct {
		Title, UID    string
		SchemaVersion int
		Templating    struct {
			List []struct{ Name, Type, Query, Definition any }
		}
		Panels []struct {
			ID          int
			Type, Title string
			Datasource  source
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct {
				Expr, RefID string
				Datasource  source
			}
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	if board.Title == "" || board.UID == "" || board.SchemaVersion == 0 {
		t.Errorf("the dashboard is %+v", board)
	}
	if v := board.Templating.List[0]; v.Name != "datasource" || v.Type != "datasource" || v.Query != "prometheus" {
		t.Errorf("the first variable is %+v, want the data source", v)
	}
	all := registered(t)
	all["culprit_loop_last_turn_timestamp_seconds"] = nil
	shown, ids := map[string]bool{}, map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 || len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing, or is out of the way: %+v", p.Title, p)
		}
		for _, target := range p.Targets {
			if target.Datasource != (source{"prometheus", "${datasource}"}) || p.Datasource != target.Datasource {
				t.Errorf("panel %q reads %+v", p.Title, target.Datasource)
			}
			for _, name := range uses(t, all, p.Title, target.Expr) {
				shown[name] = true
			}
		}
	}
	// Timestamps are for alerts.
	for name := range maps.Keys(all) {
		if strings.HasPrefix(name, "culprit_") && !shown[name] && !strings.HasSuffix(name, "_timestamp_seconds") && name != "culprit_firewall_gap_seconds_total" {
			t.Errorf("no panel shows %s", name)
		}
	}
}
