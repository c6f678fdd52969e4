package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// problems collects the mistakes, key by key.
type problems []Problem

func (ps *problems) add(key, format string, args ...any) {
	*ps = append(*ps, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (ps *problems) oneOf(key, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		ps.add(key, "%q is not known; allowed: %s", got, strings.Join(allowed, ", "))
	}
}

func (ps *problems) within(key string, got, low, high int) {
	if got < low || got > high {
		ps.add(key, "%d is out of range; allowed: %d to %d", got, low, high)
	}
}

func (ps *problems) lasts(key string, got, low, high time.Duration) {
	if got < low || got > high {
		ps.add(key, "%s is out of range; allowed: %s to %s", got, low, high)
	}
}

func (ps *problems) pathPattern(key, pattern string) {
	if _, err := path.Match(pattern, ""); err != nil {
		ps.add(key, "%q is not a path pattern: %v", pattern, err)
	}
}
