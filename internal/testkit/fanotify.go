package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FanotifyMarks counts the fanotify marks of a process that raise events, and those that only
// ignore a file (man 5 proc, fdinfo). The test fails if the process has no fanotify descriptor.
func FanotifyMarks(t testing.TB, pid int) (marks, ignoring int) {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("process %d has no descriptors: %v", pid, err)
	}
	found := false
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); to != "anon_inode:[fanotify]" {
			continue
		}
		found = true
		text, err := os.ReadFile(strings.Replace(fd, "/fd/", "/fdinfo/", 1))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			rest, ok := strings.CutPrefix(line, "fanotify ")
			switch {
			case !ok || strings.HasPrefix(rest, "flags:"):
			case strings.Contains(rest, " mask:0 "):
				ignoring++
			default:
				marks++
			}
		}
	}
	if !found {
		t.Fatalf("process %d has no fanotify descriptor", pid)
	}
	return marks, ignoring
}
