package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/internal/config"
)

func TestEventsOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	there := filepath.Join(dir, "events.json")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open.json")
	if err := os.WriteFile(open, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		events config.Events
		status Status
		says   string
	}{
		{config.Events{}, OK, "not sent out"},
		{config.Events{File: there}, OK, there},
		{config.Events{File: filepath.Join(dir, "new", "events.json")}, OK, "new"},
		{config.Events{File: filepath.Join(dir, "no", "such", "events.json")}, Fail, filepath.Join(dir, "no")},
		{config.Events{File: dir}, Fail, "not an ordinary file"},
		{config.Events{File: open}, Fail, "by others"},
		{config.Events{Command: []string{"/bin/sh", "-c", "cat"}}, OK, "/bin/sh"},
		{config.Events{Command: []string{there}}, Fail, there},
	} {
		got := eventsOut(t.Context(), &config.Config{Events: c.events})
		if got.Status != c.status || !strings.Contains(got.Found, c.says) || (got.Remedy == "") != (c.status == OK) {
			t.Errorf("%+v: %+v", c.events, got)
		}
	}
}
