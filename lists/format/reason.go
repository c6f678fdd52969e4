package format

// A Reason says why a line is no entry.
type Reason string

// The reasons. Their text is for people, too.
const (
	Syntax     Reason = "not a line of this format"
	Long       Reason = "longer than 64 KiB"
	Name       Reason = "not a domain name"
	Address    Reason = "an address"
	Single     Reason = "one label: write *.label if a whole top level is meant"
	Everything Reason = "would match every name"
	Local      Reason = "a name of the local machine"
	Path       Reason = "about a part of a site (a URL, a path, a port)"
	Wildcard   Reason = "a wildcard inside of the name"
	Regexp     Reason = "a regular expression"
	Cosmetic   Reason = "about the elements of a page"
	Modifier   Reason = "a modifier that a DNS question cannot be tested for"
	Trigger    Reason = "an RPZ trigger other than the name of the question"
	Outside    Reason = "outside of the zone"
	Directive  Reason = "an option or a directive that names no domain"
	Forward    Reason = "says who answers, not what is bad"
	Type       Reason = "another type of indicator"
	Withdrawn  Reason = "revoked, deleted or not meant for detection"
	Expression Reason = "a STIX pattern that is not about domain names alone"
)

// Usual reports whether such lines are in every list of their format: they are counted, and nobody needs to look at them.
func (r Reason) Usual() bool { return r == Local || r == Type || r == Withdrawn }
