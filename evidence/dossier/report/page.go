package report

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"culprit/internal/event"
	"culprit/internal/text"
	"culprit/internal/words"
)

// page is what a report shows. All its strings, those in sentences too, are safe to print on a
// terminal.
type page struct {
	Title    string
	Sure     string // of the surest suspect
	Summary  []sentence
	Suspects []suspectRow // if there are several
	More     int          // suspects left out
	Facts    []fact
	Timeline timeline
	Stories  []account

	Tree        []*node
	TreeLeftOut int

	Proofs        []proof
	ProofsLeftOut int

	Snapshots        []snapshot
	SnapshotsLeftOut int

	Packets        []packet
	PacketsLeftOut int

	Programs int
	Profiles []profile
	Missing  []string
	Method   []fact
	Config   []string // lines
}

// fact is a line of a table of two columns.
type fact struct{ Key, Value string }

// packet is a row of the table of packets.
type packet struct {
	Time, Asks, Way, From, Sure string
	Count                       int
	Proof                       int // its number; 0 if it is not shown
}

func newPage(c *Case) *page {
	x := newIndex(c)
	suspects, without := x.suspects()
	lives := x.lives()
	p := &page{
		Title:    title(x),
		Sure:     unknown.String(),
		Summary:  x.summary(suspects, without),
		Facts:    x.facts(),
		Timeline: x.timeline(lives),
		Programs: max(c.Capture.Culprit.Programs, len(lives)),
		Profiles: x.profiles(),
		Missing:  x.missing(),
		Method:   x.method(),
	}
	switch {
	case len(suspects) > 0:
		p.Sure = suspects[0].sure.String()
	case len(x.Hits) > 0:
		p.Sure = x.sure(&x.Hits[0]).String()
	}
	if len(suspects) > 1 {
		for _, s := range suspects[:min(len(suspects), maxSuspects)] {
			p.Suspects = append(p.Suspects, s.row())
		}
		p.More = len(suspects) - len(p.Suspects)
	}
	for _, s := range c.Stories {
		p.Stories = append(p.Stories, x.account(s))
	}
	p.Tree, p.TreeLeftOut = forest(lives)
	shown := x.shown(suspects)
	for i, proof := range x.proofs {
		if shown[i] {
			p.Proofs = append(p.Proofs, x.proof(i, proof))
		}
	}
	p.ProofsLeftOut = len(x.proofs) - len(p.Proofs) + x.ProofsLeftOut
	p.link(shown)
	for i := range x.Snapshots[:min(len(x.Snapshots), maxSnapshots)] {
		p.Snapshots = append(p.Snapshots, snapshotOf(&x.Snapshots[i]))
	}
	p.SnapshotsLeftOut = len(x.Snapshots) - len(p.Snapshots) + x.SnapshotsLeftOut
	for i := range x.Hits[:min(len(x.Hits), maxPackets)] {
		p.Packets = append(p.Packets, x.packet(&x.Hits[i], shown))
	}
	p.PacketsLeftOut = x.packets() - len(p.Packets)
	if c.Config != "" {
		config := c.Config[:min(len(c.Config), maxConfig)]
		for l := range strings.Lines(config) {
			p.Config = append(p.Config, text.Escape(strings.TrimRight(l, "\r\n")))
		}
		if len(c.Config) > maxConfig {
			p.Config = append(p.Config, fmt.Sprintf("# … and %s more", text.Size(int64(len(c.Config)-maxConfig))))
		}
	}
	return p
}

// linked adds where the lines of traces are shown.
func (p *page) linked(line func(trace string, number int64) string) *page {
	for i := range p.Proofs {
		proof := &p.Proofs[i]
		for k := range proof.Lines {
			proof.Lines[k].Link = line(proof.Trace, proof.Lines[k].Number)
		}
	}
	for i := range p.Stories {
		s := &p.Stories[i]
		for k := range s.Rows {
			if first := s.Rows[k].First; first.Line > 0 {
				s.Rows[k].Link = line(first.Trace, first.Line)
			}
		}
	}
	return p
}

func title(x *index) string {
	name := "capture " + text.Escape(x.Capture.Event.ID)
	i := max(0, slices.IndexFunc(x.Hits, func(h event.Hit) bool { return h.Culprit.Proof != nil }))
	if i < len(x.Hits) && x.Hits[i].DNS != nil {
		name = clip(x.Hits[i].DNS.Question.Name, maxLabel)
	}
	return fmt.Sprintf("%s, asked by %s", name, user(&x.Capture.User))
}

// places are the containers that the senders were in.
func (x *index) places() (all []string) {
	const most = 3
	for i := range x.Hits {
		where := words.Container(&x.Hits[i].Place)
		if x.Hits[i].Container == nil || slices.Contains(all, where) {
			continue
		}
		if len(all) == most {
			return append(all, "and others")
		}
		all = append(all, where)
	}
	return all
}

func (x *index) facts() []fact {
	c := &x.Capture
	d := &c.Culprit
	var f []fact
	add := func(key, format string, args ...any) { f = append(f, fact{key, fmt.Sprintf(format, args...)}) }
	add("User", "%s", user(&c.User))
	if d.Scope == "container" {
		add("Captured", "%s", clip(c.Whose(), maxLabel))
	}
	for _, where := range x.places() {
		add("Container", "%s", clip(where, maxCommand))
	}
	if c.Rule != nil {
		add("Rule", "%s", clip(c.Rule.Name, maxLabel))
	}
	switch n := len(x.Hits); {
	case n == 1:
		add("Packet", "%s", text.Time(x.Hits[0].Timestamp))
	case n > 1:
		add("First packet", "%s", text.Time(x.Hits[0].Timestamp))
		add("Last packet", "%s", text.Time(x.Hits[n-1].Timestamp))
	}
	if n := x.packets(); n > 0 {
		sure := 0
		for _, p := range x.proofs {
			if !p.Culprit.Probable {
				sure++
			}
		}
		value := fmt.Sprintf("%d of %s", sure, text.Plural(n, "packet"))
		if more := len(x.proofs) - sure; more > 0 {
			value += fmt.Sprintf(", and %d probable", more)
		}
		if x.ProofsLeftOut > 0 {
			value += fmt.Sprintf(", and %d left out", x.ProofsLeftOut)
		}
		add("Proven", "%s", value)
	}
	add("Traces", "%d", max(d.Traces, len(x.Traces)+x.TracesLeftOut))
	if d.Programs > 0 {
		add("Processes seen", "%d", d.Programs)
	}
	state := text.Escape(d.State)
	if d.EndedBecause != nil {
		state += ": " + clip(words.CaptureEnded(d.EndedBecause), maxCommand)
	}
	add("Capture", "%s", state)
	if c.Event.End != nil {
		add("Ended", "%s", text.Time(*c.Event.End))
	}
	level := strconv.Itoa(d.Level)
	if n := len(d.Raised); n > 0 {
		level += " since " + clock(d.Raised[n-1].Timestamp)
	}
	add("Scope, level", "%s, %s", text.Escape(cmp.Or(d.Scope, "user")), level)
	return f
}

// method says how the evidence was obtained.
func (x *index) method() []fact {
	var f []fact
	add := func(key, value string) {
		if value != "" {
			f = append(f, fact{key, value})
		}
	}
	add("Host", clip(x.Host, maxLabel))
	add("Kernel", clip(x.Kernel, maxCommand))
	add("culprit", clip(x.Culprit, maxLabel))
	add("strace", clip(x.Strace, maxLabel))
	add("Capture", text.Escape(x.Capture.Event.ID))
	add("Began", text.Time(x.Capture.Timestamp))
	if len(x.Traces) > 0 {
		t := &x.Traces[0]
		add("Traces in", clip(path.Dir(t.File.Path), maxCommand))
		add("Tracing command", clip(text.Quote(t.Culprit.Command), maxCommand))
	}
	if !x.Made.IsZero() {
		add("Report made", text.Time(x.Made))
		zone, offset := x.Made.Local().Zone()
		add("Times are", fmt.Sprintf("%s (UTC%+.4g h)", text.Escape(zone), (time.Duration(offset)*time.Second).Hours()))
	}
	return f
}

func (x *index) packet(h *event.Hit, shown map[int]bool) packet {
	sure := x.sure(h)
	r := packet{
		Time:  text.Time(h.Timestamp),
		Asks:  asks(h),
		Way:   way(h),
		Sure:  sure.String(),
		Count: max(1, h.Culprit.Count),
	}
	for i := range x.Forwards {
		if f := &x.Forwards[i]; f.Culprit.ForwardedFrom != nil && f.Culprit.ForwardedFrom.ID == h.Event.ID {
			r.Way += fmt.Sprintf(", forwarded by %s to %s", user(f.User), text.Escape(f.Destination.String()))
		}
	}
	if told := words.Told(h); told != "" {
		r.Way += ", told " + clip(told, maxLabel)
	}
	i, ok := x.proofOf[h.Event.ID]
	if ok && shown[i] {
		r.Proof = i + 1
	}
	switch {
	case ok:
		p := x.proofs[i]
		r.From = words.Lines(&p.Culprit)
		if process, _ := x.sender(p); process != nil {
			r.From += ", " + clip(command(process), maxLabel)
		}
	case h.Culprit.Proof != nil:
		r.From = "its proof is not in this report"
	case h.Process != nil:
		r.From = clip(h.Process.String(), maxLabel)
		if n := len(h.Culprit.Origin.Processes) + h.Culprit.Origin.More; n > 0 {
			r.From += fmt.Sprintf(" and %d that share its socket", n)
		}
	case sure == guessed:
		o := &h.Culprit.Origin
		r.From = "perhaps " + clip(o.Processes[0].String(), maxLabel)
		if n := len(o.Processes) + o.More - 1; n > 0 {
			r.From += fmt.Sprintf(" or one of %d others", n)
		}
	default:
		r.From = clip(words.Unattributed(&h.Culprit.Origin), maxCommand)
	}
	return r
}
