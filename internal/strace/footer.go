package strace

// A Footer says at the end of a trace file how the trace ended.
type Footer struct {
	// Executable and CommandLine are the program that the process has executed since the header
	// was written; empty if there is none.
	Executable, CommandLine string
	Ended                   string // why the trace ended
	Dropped                 int64  // bytes of strace's output that are missing in the file
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

// AppendPartial appends the footer of a trace that nobody closed. The last line of such a trace
// may lack its end, so the footer begins with a line end.
func AppendPartial(to []byte, ended string) []byte {
	c := comments(append(to, '\n'))
	c.add(keyEnded, "%s: this trace is partial", ended)
	return c
}
