package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// toJournal reports whether standard error goes to journald (JOURNAL_STREAM in man 5
// systemd.exec names its device and inode).
func toJournal() bool {
	var st unix.Stat_t
	if unix.Fstat(2, &st) != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// journal gives each line a priority, which journald stores (man 3 sd-daemon).
type journal struct {
	debug, info, warn, err slog.Handler
}

// newJournal makes a journal from handlers that write lines.
func newJournal(w io.Writer, handler func(io.Writer) slog.Handler) journal {
	return journal{
		debug: handler(prefixed{w, "<7>"}), info: handler(prefixed{w, "<6>"}),
		warn: handler(prefixed{w, "<4>"}), err: handler(prefixed{w, "<3>"}),
	}
}

func (j journal) of(level slog.Level) slog.Handler {
	switch {
	case level < slog.LevelInfo:
		return j.debug
	case level < slog.LevelWarn:
		return j.info
	case level < slog.LevelError:
		return j.warn
	}
	return j.err
}

func (j journal) Enabled(ctx context.Context, level slog.Level) bool {
	return j.info.Enabled(ctx, level)
}

func (j journal) Handle(ctx context.Context, r slog.Record) error {
	return j.of(r.Level).Handle(ctx, r)
}

func (j journal) WithAttrs(a []slog.Attr) slog.Handler {
	return journal{j.debug.WithAttrs(a), j.info.WithAttrs(a), j.warn.WithAttrs(a), j.err.WithAttrs(a)}
}

func (j journal) WithGroup(name string) slog.Handler {
	return journal{j.debug.WithGroup(name), j.info.WithGroup(name), j.warn.WithGroup(name), j.err.WithGroup(name)}
}

// prefixed writes a prefix before each line. A handler writes each line in one call.
type prefixed struct {
	w      io.Writer
	prefix string
}

func (p prefixed) Write(line []byte) (int, error) {
	if _, err := p.w.Write(append([]byte(p.prefix), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
