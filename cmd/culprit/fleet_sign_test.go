package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"culprit/fleet/sets"
)

// What is signed can be read back, and only its owner can read it, also where another file was.
func TestWriteSigned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list := filepath.Join(dir, "feed.txt")
	s := &sets.Set{Format: sets.Format, Fleet: "culprit", Name: "zones", Version: 1, Lists: []sets.List{{Name: "feed.txt"}}}
	doc, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"evil.example\nworse.example\n", "good.example\n"} {
		if err := os.WriteFile(list, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := writeSigned(dir, s, sets.Signed{Set: doc, Signature: "by me"}, map[string]string{"feed.txt": list})
		if err != nil {
			t.Fatal(err)
		}
		read, signed, paths, err := readSigned(file)
		if err != nil || read.Name != "zones" || signed.Signature != "by me" {
			t.Errorf("read back: %+v, %+v, %v", read, signed, err)
		}
		if got, err := os.ReadFile(paths["feed.txt"]); err != nil || string(got) != content {
			t.Errorf("the list is %q, %v", got, err)
		}
		for _, name := range []string{file, file + signatureSuffix, paths["feed.txt"]} {
			if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
				t.Errorf("%s: %v, %v", name, info, err)
			}
			if err := os.Chmod(name, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := writeSigned(dir, s, sets.Signed{}, map[string]string{"feed.txt": dir + "/no"}); err == nil || !strings.Contains(err.Error(), "feed.txt") {
		t.Errorf("without the list: %v", err)
	}
}
