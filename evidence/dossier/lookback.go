package dossier

import (
	"culprit/evidence/proof"
	"culprit/evidence/story"
	"culprit/evidence/tracefile"
	"culprit/internal/strace"
)

// Bounds of the lines of a look-back.
const (
	lookBackBegin = 20 // lines of its begin
	lookBackEnd   = 40 // … and of its end
	lookBackText  = 4 << 10
)

// LookBack reads the lines of a look-back that tell what a program did: without what every
// program does when it is loaded, and if they are many without those in the middle.
func LookBack(path string) (lines []proof.Line, err error) {
	f, err := tracefile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := strace.NewLines(lookBackText)
	for line, err := range all.All(f) {
		if err != nil {
			return lines, err
		}
		tid, _, text := strace.ParseLine(line)
		if text == nil || story.IsLoading(string(text.Name()), text) {
			continue
		}
		if len(lines) == lookBackBegin+lookBackEnd {
			lines = append(lines[:lookBackBegin], lines[lookBackBegin+1:]...)
			lines[lookBackBegin].Gap = true
		}
		lines = append(lines, proof.Line{Number: all.Number(), TID: tid, Text: string(line), Cut: all.Length() - int64(len(line))})
	}
	return lines, nil
}
