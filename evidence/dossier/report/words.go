package report

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// clip escapes what others wrote, and cuts it to most characters.
func clip(s string, most int) string {
	if len(s) > 8*most { // escaping never makes text shorter
		s = s[:8*most]
	}
	s = text.Escape(s)
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}

// command returns the program that a process runs, for people.
func command(p *event.Process) string {
	return cmp.Or(p.CommandLine, p.Executable, p.Name, "an unknown program")
}

// describe names a process: "php cron.php (PID 812)".
func describe(p *event.Process) string {
	return fmt.Sprintf("%s (PID %d)", clip(command(p), maxCommand), p.PID)
}

// origin returns the ancestor of a process right below PID 1.
func origin(p *event.Process) *event.Process {
	for depth := 0; depth < maxParents && p.Parent != nil && p.Parent.PID > 1; depth++ {
		p = p.Parent
	}
	return p
}

func user(u *event.User) string { return clip(u.String(), maxLabel) }

// asks says what a packet asks for, or where it goes if it holds no question.
func asks(h *event.Hit) string {
	if h.DNS == nil {
		return "no DNS question"
	}
	return clip(h.Asks(), maxCommand)
}

// way says where a packet came from and went to.
func way(h *event.Hit) string {
	return clip(fmt.Sprintf("%s %s > %s", h.Network.Transport, h.Source, h.Destination), maxLabel)
}

func clock(t time.Time) string { return t.Local().Format("15:04:05.000") }
func day(t time.Time) string   { return t.Local().Format("2006-01-02") }

// upper begins a sentence.
func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func exit(code int) string {
	if code > 128 && code < 128+65 {
		return fmt.Sprintf("killed by signal %d", code-128)
	}
	return fmt.Sprintf("exit status %d", code)
}

// short writes a round duration without its zeros: "2m" instead of "2m0s".
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// since says which part of a program's life its trace holds.
func since(d *event.TraceDetail) string {
	if d.FromStart {
		return "from start"
	}
	return "from " + words.Length(time.Duration(d.AgeMS*float64(time.Millisecond))) + " after its start"
}
