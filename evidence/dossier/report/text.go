package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// width is how many columns the plain text fills. Long names and trace lines are broken, too.
const width = 80

// Text writes the report as plain text for a terminal or a mail. Nothing is written
// if making it fails.
func Text(w io.Writer, c *Case) error {
	p := newPage(c)
	var b plain
	b.summary(p)
	b.title("Facts")
	b.facts("", p.Facts)
	for i := range p.Stories {
		b.story(&p.Stories[i])
	}
	b.title("Processes")
	if len(p.Tree) == 0 {
		b.para("", "", "None are known.")
	}
	b.tree(p.Tree, 0)
	if len(p.Proofs) > 0 {
		b.para("", "", "* proven to have sent a packet")
	}
	b.more(p.TreeLeftOut, "processes")
	b.title("Proof")
	if len(p.Proofs) == 0 {
		b.para("", "", "No line of a trace is known to have sent a packet.")
	}
	for i := range p.Proofs {
		b.proof(&p.Proofs[i])
	}
	b.more(p.ProofsLeftOut, "proofs")
	if len(p.Snapshots) > 0 {
		b.title("What the program was, at the instant it sent the first packet")
	}
	for i, s := range p.Snapshots {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.para("", "    ", s.Title)
		b.facts("  ", s.Facts)
	}
	b.more(p.SnapshotsLeftOut, "snapshots")
	b.title("Packets")
	for _, r := range p.Packets {
		count, proof := "", ""
		if r.Count > 1 {
			count = fmt.Sprintf(" (%d times)", r.Count)
		}
		if r.Proof > 0 {
			proof = fmt.Sprintf(", see %d", r.Proof)
		}
		b.para("", "    ", fmt.Sprintf("%s  %s%s", r.Time, r.Asks, count))
		b.para("    ", "    ", r.Way)
		b.para("    ", "    ", fmt.Sprintf("%s%s: %s", r.Sure, proof, r.From))
	}
	b.more(p.PacketsLeftOut, "packets")
	if len(p.Profiles) > 0 {
		b.title(fmt.Sprintf("Programs of the user: %d", p.Programs))
	}
	for i, f := range p.Profiles {
		if i > 0 {
			b.WriteByte('\n')
		}
		row := "%7s %7s %11s %11s  "
		fmt.Fprintf(&b, row+"%s\n", "COUNT", "TRACED", "TOTAL LIFE", "MEAN LIFE", strings.ToUpper(f.By))
		for _, r := range f.Rows {
			first := fmt.Sprintf(row, fmt.Sprint(r.Count), fmt.Sprint(r.Traced), r.Total, r.Mean)
			b.para(first, strings.Repeat(" ", len(first)), r.Name)
		}
		if f.More != "" {
			b.para("  ", "", f.More)
		}
	}
	b.title("What is missing")
	if len(p.Missing) == 0 {
		b.para("", "", "Nothing, as far as is known.")
	}
	for _, m := range p.Missing {
		b.para("- ", "  ", m)
	}
	b.title("How it was obtained")
	b.facts("", p.Method)
	if len(p.Config) > 0 {
		b.title("Configuration")
	}
	for _, l := range p.Config {
		b.para("  ", "      ", l)
	}
	if _, err := b.WriteTo(w); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// plain builds text from parts that are escaped.
type plain struct{ bytes.Buffer }

func (b *plain) title(s string) {
	fmt.Fprintf(b, "\n%s\n%s\n", s, strings.Repeat("-", utf8.RuneCountInString(s)))
}

func (b *plain) summary(p *page) {
	b.para("", "", p.Title)
	b.WriteString(strings.Repeat("=", min(width, utf8.RuneCountInString(p.Title))) + "\n\n")
	for _, s := range p.Summary {
		b.para("", "", s.String())
	}
	for i, s := range p.Suspects {
		proof := ""
		if s.Proof > 0 {
			proof = fmt.Sprintf(", see proof %d", s.Proof)
		}
		b.para(fmt.Sprintf("%3d. ", i+1), "     ", s.Command)
		b.para("     ", "     ", fmt.Sprintf("%s: %s packets%s; %s", s.Executable, s.Packets, proof, s.Processes))
		if s.Parents != "" {
			b.para("     ", "     ", "started by "+s.Parents)
		}
	}
	b.more(p.More, "programs")
}

// para breaks a paragraph into lines, at spaces if possible. The first line begins with first, the
// others with rest.
func (b *plain) para(first, rest, s string) {
	room := max(width-utf8.RuneCountInString(rest), 20)
	b.WriteString(first)
	left := room - (utf8.RuneCountInString(first) - utf8.RuneCountInString(rest))
	for {
		cut := fit(s, left)
		b.WriteString(strings.TrimRight(s[:cut], " "))
		b.WriteByte('\n')
		if s = strings.TrimLeft(s[cut:], " "); s == "" {
			return
		}
		b.WriteString(rest)
		left = room
	}
}

// fit returns how many bytes of s fit into room columns.
func fit(s string, room int) int {
	n, space := 0, 0
	for i, r := range s {
		if n == room {
			if r == ' ' || space == 0 {
				return max(i, 1)
			}
			return space
		}
		if r == ' ' && i > 0 {
			space = i
		}
		n++
	}
	return len(s)
}

func (b *plain) facts(indent string, facts []fact) {
	for _, f := range facts {
		first := fmt.Sprintf("%s%-15s ", indent, f.Key)
		b.para(first, strings.Repeat(" ", len(first)), f.Value)
	}
}

func (b *plain) tree(nodes []*node, depth int) {
	indent := strings.Repeat("  ", min(depth, 12))
	for _, n := range nodes {
		mark, pid, proof := "  ", "", ""
		if n.PID > 0 {
			pid = fmt.Sprintf("%d ", n.PID)
		}
		if n.State == proven.String() {
			mark = "* "
		}
		if n.Proof > 0 {
			proof = fmt.Sprintf("  [proof %d]", n.Proof)
		}
		b.para(mark+indent, "    "+indent, pid+n.Command+proof)
		if n.Details != "" {
			b.para("      "+indent, "      "+indent, n.Details)
		}
		b.tree(n.Children, depth+1)
	}
}

func (b *plain) proof(p *proof) {
	word := "Proof"
	switch {
	case p.Probable:
		word = "Probable proof"
	case p.Kernel:
		word = "Proof by the kernel"
	}
	if b.Bytes()[b.Len()-2] != '-' { // not right below the title
		b.WriteByte('\n')
	}
	b.para("", "    ", fmt.Sprintf("%s %d: %s", word, p.Number, p.Asks))
	b.facts("  ", p.Facts)
	if p.Missing != "" {
		b.para("  ", "  ", "No lines: "+p.Missing+".")
	}
	for _, l := range p.Lines {
		if l.Gap {
			b.WriteString("        ...\n")
		}
		mark, cut := ' ', ""
		if l.Proof {
			mark = '>'
		}
		if l.Cut > 0 {
			cut = fmt.Sprintf(" (%d more characters)", l.Cut)
		}
		b.para(fmt.Sprintf("%c %6d  ", mark, l.Number), "            ", l.Text+cut)
	}
	b.more(p.LinesLeftOut, "lines of this excerpt")
	if p.PacketNotShown {
		b.para("  ", "  ", "The packet is not in this report.")
	}
	for _, l := range p.Dump {
		b.WriteString("  " + l + "\n")
	}
	b.more(p.DumpLeftOut, "bytes of the packet")
}

func (b *plain) story(a *account) {
	b.title("Step by step")
	b.facts("", append([]fact{{"Program", a.Title}}, a.Facts...))
	b.para("", "", a.Notes[0])
	for i := range a.Rows {
		r := &a.Rows[i]
		if r.Gap {
			b.WriteString("        ...\n")
		}
		mark := ' '
		if r.Packet {
			mark = '>'
		}
		b.para(fmt.Sprintf("%c %10s  ", mark, r.When), "              ", fmt.Sprintf("%s: %s [%s]", r.Who, r, r.Lines))
	}
	for _, note := range a.Notes[1:] {
		b.para("", "", note)
	}
}

func (b *plain) more(n int, things string) {
	if n > 0 {
		fmt.Fprintf(b, "  and %d more %s that are left out here\n", n, things)
	}
}
