package strace

// A Footer is what a trace file says, at its end, of how the trace ended.
type Footer struct {
	// Executable and CommandLine are the program that the process has become since the
	// header was written; empty if there is none.
	Executable, CommandLine string
	Ended                   string // why the trace ended
	Dropped                 int64  // bytes of strace's output that are not in the file
	ExitCode                *int   // of the process, 128+n for signal n; nil: not seen
}

// Append appends the lines of the footer.
func (f Footer) Append(to []byte) []byte {
	c := comments(to)
	if f.Executable != "" {
		c.add(keyBecame, "%s: %s", f.Executable, f.CommandLine)
	}
	c.add(keyEnded, "%s", f.Ended)
	c.add(keyDropped, "%d", f.Dropped)
	if f.ExitCode != nil {
		c.add(keyExit, "%d", *f.ExitCode)
	} else {
		c.add(keyExit, "not seen")
	}
	return c
}

// AppendPartial appends the footer of a trace that nobody closed. The last line of such a
// trace may lack its end, so the footer begins with one.
func AppendPartial(to []byte, ended string) []byte {
	c := comments(append(to, '\n'))
	c.add(keyEnded, "%s: this trace is partial", ended)
	return c
}
