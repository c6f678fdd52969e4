package outlet

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/evidence/outlet/ocsf"
	"culprit/internal/testkit/otlpvalue"
)

// A file of OCSF is gone on with, and so is one that was ECS before. Half a line is cut off.
func TestFileOfOCSF(t *testing.T) {
	t.Parallel()
	convert := ocsf.Converter{Host: "h", Version: "1"}.Line
	path := filepath.Join(t.TempDir(), "events.json")
	ecs := mustOpen(t, path)
	send(t, ecs, 1, 2)
	ecs.Close(context.Background())
	o := mustOpen(t, path)
	if err := Formatted(o, convert).Send(t.Context(), events(3, 4)); err != nil || o.Taken() != 4 {
		t.Fatalf("error %v, taken %d", err, o.Taken())
	}
	o.Close(context.Background())
	for _, half := range []string{"", convert(events(5, 5)[0].Line)[:40]} {
		text := read(t, path)
		if err := os.WriteFile(path, []byte(text+half), 0o600); err != nil {
			t.Fatal(err)
		}
		again := mustOpen(t, path)
		if again.Taken() != 4 || read(t, path) != text {
			t.Errorf("%d are known to be out, want 4", again.Taken())
		}
		again.Close(context.Background())
	}
	if lines := strings.Split(read(t, path), "\n"); len(lines) != 5 || !strings.HasPrefix(lines[3], ocsf.Prefix) {
		t.Errorf("the file holds %q", lines)
	}
	// A first line that was cut short is ours, too.
	if err := os.WriteFile(path, []byte(convert(events(1, 1)[0].Line)[:40]), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := mustOpen(t, path); o.Taken() != 0 || read(t, path) != "" {
		t.Errorf("%d are known to be out of %q", o.Taken(), read(t, path))
	}
}

// With a format the body of a record is the converted event; its attributes stay.
func TestOTLPOfOCSF(t *testing.T) {
	r, plainly := collect(t)
	options := plainly.options
	options.Body = ocsf.Converter{Host: "h", Version: "1"}.Line
	o := open(t, options)
	if err := o.Send(t.Context(), otlpEvents(1, 1)); err != nil {
		t.Fatal(err)
	}
	body, _ := otlpvalue.Plain(r.took[0].Body).(map[string]any)
	if body["class_uid"] != int64(4001) || r.took[0].EventName != "culprit.hit" || number(r.took[0]) != 1 {
		t.Errorf("record %v", r.took[0])
	}
}
