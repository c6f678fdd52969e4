package words

import "culprit/internal/event"

// Scope says which names an entry of a list means, to follow its name.
func Scope(s event.Scope) string {
	switch s {
	case event.ScopeSelf:
		return "the name alone"
	case event.ScopeBelow:
		return "everything below it"
	case event.ScopeWhole:
		return "and everything below it"
	}
	return string(s)
}
