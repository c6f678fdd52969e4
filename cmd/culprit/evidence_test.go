package main

import (
	"path/filepath"
	"testing"
)

// SQLite takes the first part of a relative path for a host.
func TestRelativeEvidence(t *testing.T) {
	f := evidenceFlags{dir: "case"}
	if dir, err := f.directory(); err != nil || !filepath.IsAbs(dir) {
		t.Errorf("%q, %v", dir, err)
	}
}
