package capture

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// writeHeader opens a trace file with comment lines that say what it belongs to.
// Everything in them that others wrote is escaped.
func writeHeader(w io.Writer, t *tracer) {
	d := &t.trace.Culprit
	var b bytes.Buffer
	defer func() { w.Write(b.Bytes()) }()
	line := comments(&b)
	line("culprit trace", t.trace.Event.ID)
	line("capture", "%s of user %s", d.Capture.ID, &t.trace.User)
	if h := t.hit; h != nil {
		whose := "the latest of the user when this process was found"
		for _, p := range h.Senders() {
			if p.EntityID == t.id.String() {
				whose = "a packet of this process"
			}
		}
		line("hit", "%s at %s, rule %s", h.Event.ID, h.Timestamp.Format(time.RFC3339Nano), h.Rule.Name)
		line("linked as", "%s", whose)
		line("packet", "%s %s -> %s, %s", h.Network.Transport, h.Source, h.Destination, describeQuestion(h))
		line("origin", "%s", text.Escape(describeOrigin(h)))
	} else {
		line("hit", "none: started by hand")
	}
	p := &t.trace.Process
	line("process", "%d, started %s, found by %s", p.PID, p.Start.Format(time.RFC3339Nano), d.FoundBy)
	line("executable", "%s", text.Escape(p.Executable))
	line("command line", "%s", text.Escape(p.CommandLine))
	line("directory", "%s", text.Escape(p.WorkingDirectory))
	for _, parent := range p.Ancestry() {
		line("parent", "%s", text.Escape(parent))
	}
	if t.trace.Container != nil {
		line("container", "%s", t.trace.Container.ID)
	}
	line("strace", "%s", text.Quote(d.Command))
}

// writeFooter closes a trace file: why the trace ended, what it lacks, how the
// process ended. It may stand behind a line that was cut.
func writeFooter(w *counter, end *ending) {
	if w.last != '\n' {
		fmt.Fprintln(w)
	}
	line := comments(w)
	if p := end.program; p != nil {
		line("became", "%s: %s", text.Escape(p.executable), text.Escape(p.commandLine))
	}
	line("ended", "%s", text.Escape(words.TraceEnded(&end.because)))
	line("bytes dropped", "%d", end.lost)
	if end.exitCode != nil {
		line("exit status", "%d", *end.exitCode)
	} else {
		line("exit status", "not seen")
	}
}

// comments returns a function that writes "# key: value" lines.
func comments(w io.Writer) func(key, format string, args ...any) {
	return func(key, format string, args ...any) {
		fmt.Fprintf(w, "# %s: %s\n", key, fmt.Sprintf(format, args...))
	}
}

func describeQuestion(h *event.Hit) string {
	if h.DNS == nil {
		return "no DNS question"
	}
	return fmt.Sprintf("dns id %s asks %s", h.DNS.ID, text.Escape(h.Asks()))
}

// describeOrigin says where a hit came from, and how sure that is.
func describeOrigin(h *event.Hit) string {
	o := &h.Culprit.Origin
	switch o.Grade {
	case event.GradeSocket:
		others := ""
		if n := len(o.Processes) + o.More; n > 0 {
			others = " and shares it with " + text.Plural(n, "other")
		}
		return fmt.Sprintf("socket: process %s holds the packet's socket%s", h.Process, others)
	case event.GradeCandidates:
		var names []string
		for i := range o.Processes {
			names = append(names, o.Processes[i].String())
		}
		more := ""
		if o.More > 0 {
			more = fmt.Sprintf(" and %d more", o.More)
		}
		return fmt.Sprintf("candidates (a guess, %s): %s%s", words.Unattributed(o), strings.Join(names, "; "), more)
	}
	return "none: " + words.Unattributed(o)
}
