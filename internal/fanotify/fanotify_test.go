package fanotify

import (
	"testing"

	"culprit/internal/testkit"
)

func TestAttachInExecve(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]bool{
		"6.8.0": true, "6.18.44-fc-v669": true, "7.0-rc1": true, "6.1.0-18-amd64": false, "5.15.0": false, "": false, "x.y": false,
	} {
		if got := attachInExecve(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	if err := Probe(); err != nil {
		t.Error(err)
	}
}
