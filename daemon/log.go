package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"culprit/internal/config"
	"culprit/internal/redact"
	"culprit/internal/text"
)

// logging is the part of the log that a reload can change: its level, and what is masked.
type logging struct {
	level slog.LevelVar
	mask  atomic.Pointer[redact.Patterns]
}

func newLogging(c *config.Config) *logging {
	l := new(logging)
	l.set(c)
	return l
}

func (l *logging) set(c *config.Config) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		panic(fmt.Sprintf("log level %q passed the check of the configuration", c.Log.Level))
	}
	l.level.Set(level)
	l.mask.Store(c.Capture.Redaction())
}

// masked masks an attribute that holds foreign text.
func (l *logging) masked(a slog.Attr) slog.Attr {
	if a.Key == "command_line" || a.Key == "text" || a.Key == "detail" {
		a.Value = slog.StringValue(l.mask.Load().Text(a.Value.String()))
	}
	return a
}

// newLogger logs in the configured format: logfmt for people, or JSON with the field names of
// ECS. Both escape what is not printable.
func newLogger(w io.Writer, format string, settings *logging) *slog.Logger {
	options := &slog.HandlerOptions{Level: &settings.level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { return settings.masked(a) }}
	handler := func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, options) }
	if format == "json" {
		names := map[string]string{slog.TimeKey: "@timestamp", slog.LevelKey: "log.level", slog.MessageKey: "message"}
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if name, ok := names[a.Key]; ok && len(groups) == 0 {
				a.Key = name
			}
			return settings.masked(a)
		}
		handler = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(text.JSONWriter(w), options) }
	}
	if toJournal() {
		return slog.New(newJournal(w, handler))
	}
	return slog.New(handler(w))
}
