package daemon

import (
	"bytes"
	"io"
	"log/slog"
	"testing"
)

// Each line has the priority of its level, whatever was added to the logger.
func TestJournal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(newJournal(&out, func(w io.Writer) slog.Handler {
		return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		}})
	})).With("a", 1).WithGroup("g")
	log.Debug("one", "b", 2)
	log.Info("two")
	log.Warn("three")
	log.Error("four")
	want := "<7>msg=one a=1 g.b=2\n<6>msg=two a=1\n<4>msg=three a=1\n<3>msg=four a=1\n"
	if out.String() != want {
		t.Errorf("got\n%s, want\n%s", out.String(), want)
	}
}
