package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// row is a line of the screen.
type row struct {
	text string
	bold bool
}

// frame is the screen for a view: at most height rows, none wider than width.
// What others wrote is escaped.
func frame(v *view, now time.Time, width, height int) []row {
	straces, runs := 0, 0
	var bytes int64
	for _, w := range v.captures {
		straces += w.straces
		if !w.finished() {
			runs++
			bytes += w.bytes
		}
	}
	rows := []row{
		{fmt.Sprintf("%s: %s. q ends", v.dir, v.daemon), true},
		{fmt.Sprintf("now %s, %s, %s; since %s %s, %d proven, %d lost", text.Plural(runs, "capture"), text.Plural(straces, "strace"),
			text.Size(bytes), v.since.Local().Format(time.TimeOnly), text.Plural(v.newHits, "hit"), v.proven, v.lost), false},
	}

	// Each table has an empty row and a header before it. What the others leave is
	// for the hits.
	left := height - len(rows) - 2*3
	losses := min(len(v.losses), max(1, left/5))
	captures := min(len(v.captures), max(1, left/3, left-losses-len(v.hits)))
	hits := min(len(v.hits), max(0, left-losses-captures))

	rows = append(rows, table("STARTED\tCAPTURE\tUSER\tLEVEL\tHITS\tTRACES\tSTRACES\tSIZE\tSTATE", latest(running(v.captures), captures), func(w *watched) []string {
		d := &w.Culprit
		return []string{
			shortTime(w.Timestamp, now), shortID(w.Event.ID), w.User.String(), strconv.Itoa(d.Level), strconv.Itoa(d.Hits),
			strconv.Itoa(d.Traces), strconv.Itoa(w.straces), text.Size(w.bytes), strings.TrimSuffix(d.State+": "+words.CaptureEnded(d.EndedBecause), ": "),
		}
	})...)
	rows = append(rows, table("TIME\tHIT\tUSER\tASKS\tPROOF\tFROM", latest(v.hits, hits), func(h event.Hit) []string {
		proof := "-"
		if p := h.Culprit.Proof; p != nil {
			proof = fmt.Sprintf("line %d", p.Line)
			if p.Probable {
				proof += "?"
			}
		}
		return []string{
			shortTime(h.Timestamp, now), shortID(h.Event.ID), h.User.String(), fit(text.Escape(h.Asks()), max(12, width/3)), proof, clip(words.Sender(&h)),
		}
	})...)
	rows = append(rows, table("TIME\tLOST\tWHAT", latest(v.losses, losses), func(l event.Loss) []string {
		return []string{shortTime(l.Timestamp, now), strconv.FormatUint(l.Culprit.Count, 10), words.Loss(l.Culprit)}
	})...)
	rows = rows[:max(0, min(len(rows), height))]
	for i := range rows {
		rows[i].text = fit(text.Escape(rows[i].text), width)
	}
	return rows
}

// running moves what is not finished to the end, where the newest are.
func running(captures []*watched) []*watched {
	finished := func(w *watched) int {
		if w.finished() {
			return 0
		}
		return 1
	}
	captures = slices.Clone(captures)
	slices.SortStableFunc(captures, func(a, b *watched) int { return cmp.Compare(finished(a), finished(b)) })
	return captures
}

// latest returns the last n, the very last first.
func latest[T any](all []T, n int) []T {
	all = slices.Clone(all[len(all)-n:])
	slices.Reverse(all)
	return all
}

// table makes rows of a table, with an empty one before it.
func table[T any](header string, all []T, cells func(T) []string) []row {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, header)
	for _, one := range all {
		fields := cells(one)
		for i, f := range fields {
			fields[i] = text.Escape(f)
		}
		fmt.Fprintln(w, strings.Join(fields, "\t"))
	}
	w.Flush()
	rows := []row{{}}
	for line := range strings.Lines(b.String()) {
		rows = append(rows, row{strings.TrimRight(line, " \n"), len(rows) == 1})
	}
	return rows
}

// fit cuts a text to so many characters.
func fit(s string, width int) string {
	if len(s) <= width {
		return s
	}
	switch r := []rune(s); {
	case len(r) <= width:
		return s
	case width < 1:
		return ""
	default:
		return string(r[:width-1]) + "…"
	}
}

// shortID is as much of an id as commands need to find it: its random end.
func shortID(id string) string { return id[max(0, len(id)-8):] }

// shortTime writes a moment as the time of day, or as the day if it is not of the
// last hours.
func shortTime(t, now time.Time) string {
	if now.Sub(t).Abs() > 12*time.Hour {
		return t.Local().Format("01-02 15:04")
	}
	return t.Local().Format(time.TimeOnly)
}

// terminal is a terminal that shows a screen of ours until it is closed.
type terminal struct {
	out   *os.File
	keys  chan byte // what is typed; closed when the terminal is gone
	tty   *os.File
	saved *unix.Termios
	drawn []byte
}

// openTerminal takes over the terminal that out is. It returns nil if out is none,
// or none that can move its cursor.
func openTerminal(out io.Writer) *terminal {
	if c, ok := out.(*checked); ok {
		out = c.w
	}
	f, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return nil
	}
	saved, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil
	}
	// The terminal opened anew can be read in a way that closing it ends, without
	// changing the standard input that we share with a shell.
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	t := &terminal{out: f, keys: make(chan byte), tty: tty, saved: saved}
	raw := *saved
	raw.Lflag &^= unix.ICANON | unix.ECHO
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	raw.Cc[unix.VSUSP] = 0 // no Ctrl-Z: the shell would get our screen
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &raw); err != nil {
		tty.Close()
		return nil
	}
	go t.read()
	// Another screen, no cursor, and what is too wide is cut: some characters take
	// two columns.
	fmt.Fprint(f, "\x1b[?1049h\x1b[?25l\x1b[?7l")
	return t
}

// read passes keys on until the terminal is closed.
func (t *terminal) read() {
	defer close(t.keys)
	b := make([]byte, 1)
	for {
		if _, err := t.tty.Read(b); err != nil {
			return
		}
		t.keys <- b[0]
	}
}

// close leaves the terminal as it was.
func (t *terminal) close() {
	t.tty.Close()
	for range t.keys { // until the reader has ended
	}
	fmt.Fprint(t.out, "\x1b[?7h\x1b[?25h\x1b[?1049l")
	unix.IoctlSetTermios(int(t.out.Fd()), unix.TCSETS, t.saved)
}

func (t *terminal) size() (width, height int) {
	s, err := unix.IoctlGetWinsize(int(t.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || s.Col == 0 || s.Row == 0 {
		return 80, 24
	}
	return int(s.Col), int(s.Row)
}

// forget makes the next draw draw everything.
func (t *terminal) forget() { t.drawn = nil }

// draw shows rows, if they are others than those that are shown.
func (t *terminal) draw(rows []row) error {
	b := []byte("\x1b[H")
	for i, r := range rows {
		if i > 0 {
			b = append(b, "\r\n"...)
		}
		if r.bold {
			b = append(b, "\x1b[1m"...)
		}
		b = append(b, r.text...)
		b = append(b, "\x1b[0m\x1b[K"...)
	}
	b = append(b, "\x1b[J"...)
	if bytes.Equal(b, t.drawn) {
		return nil
	}
	t.drawn = b
	_, err := t.out.Write(b)
	return err
}
