package sets

import (
	"fmt"

	"culprit/internal/text"
)

// A Code says why a host refuses a set.
type Code string

// The codes.
const (
	CodeFormat     Code = "format"     // cannot be read
	CodeForged     Code = "forged"     // no key of fleet.keys has signed it, or it was changed afterwards
	CodeFleet      Code = "fleet"      // of another fleet
	CodeName       Code = "name"       // of another name
	CodeReplayed   Code = "replayed"   // older than what the host has had, or another one with the same version
	CodeTooMany    Code = "too_many"   // the host has too many sets
	CodeUnaccepted Code = "unaccepted" // fleet.accept does not allow what is in it
	CodeMistakes   Code = "mistakes"   // rules that cannot work
	CodeConflict   Code = "conflict"   // a rule has the name of another one
	CodeLists      Code = "lists"      // a list could not be fetched or read
	CodeFailed     Code = "failed"     // could not be put in force
)

// Codes are all of them.
func Codes() []Code {
	return []Code{
		CodeFormat, CodeForged, CodeFleet, CodeName, CodeReplayed, CodeTooMany, CodeUnaccepted, CodeMistakes, CodeConflict, CodeLists, CodeFailed,
	}
}

// A Refusal says why a set is refused, and what is wrong with it.
type Refusal struct {
	Code Code
	Text string
}

func (r *Refusal) Error() string { return r.Text }

func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{code, fmt.Sprintf(format, args...)}
}

// clip bounds a reason, which may quote what others wrote.
func clip(s string) string { return text.Clip(s, maxReason) }
