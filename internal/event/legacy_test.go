package event

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Documents with the sentences of older culprits are read as the codes that they meant.
func TestSentences(t *testing.T) {
	t.Parallel()
	var c CaptureDetail
	if err := json.Unmarshal([]byte(`{"ended_because":"its 5 processes were used up","missed":{
		"level 1 allows 5 processes":3,"traced by process 7 (gdb) already":1,"traced by process 8 (gdb) already":2,"of tomorrow":4,"other reasons, too many to be listed":1},
		"missed_examples":[{"pid":9,"reason":"strace could not attach","detail":"strace: what?"}]}`), &c); err != nil {
		t.Fatal(err)
	}
	want := CaptureDetail{
		EndedBecause: &Ended{EndedProcesses, "5"},
		Missed:       MissedCounts{UntracedLevel: 3, UntracedForeign: 3, Unknown: 5},
		Examples:     []Missed{{PID: 9, Reason: Untraced{UntracedOther, ""}}},
	}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	for text, want := range map[string]Ended{
		"detached: its time was up": {EndedTime, ""}, "the process ended with status 137": {EndedExited, "137"},
		"strace was killed (killed)": {EndedStraceKilled, "killed"}, "detached: guard.never_executables names /usr/bin/*": {EndedNeverExecutables, "/usr/bin/*"},
		"": {Unknown, ""}, "it\nis over": {Unknown, "it\nis over"},
	} {
		var got Ended
		b, _ := json.Marshal(text)
		if err := json.Unmarshal(b, &got); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]LossDetail{
		"hits dropped: nflog.rate was reached": {LossRate, "", 2}, "trace files removed: it was older than evidence.keep": {LossTraceFiles, "keep", 2},
		"hits removed from the catalogue: older than evidence.keep": {LossOldRows, "hits", 2}, "packets of up to 12ms without our firewall rules: others changed the firewall": {LossFirewall, "12ms", 2},
		"the moon": {Unknown, "the moon", 2},
	} {
		var got LossDetail
		b, _ := json.Marshal(map[string]any{"what": text, "count": 2})
		if err := json.Unmarshal(b, &got); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
}

// Documents with codes survive a round trip.
func TestReasons(t *testing.T) {
	t.Parallel()
	c := CaptureDetail{EndedBecause: &Ended{EndedStopped, ""}, Missed: MissedCounts{UntracedGone: 2}, Examples: []Missed{{PID: 1, Reason: Untraced{UntracedForeign, "process 7 (gdb)"}}}}
	l := NewLoss(LossDamaged, "catalogue.db.damaged", 1)
	for _, v := range []struct{ from, to any }{{&c, new(CaptureDetail)}, {&l.Culprit, new(LossDetail)}} {
		b, err := json.Marshal(v.from)
		if err == nil {
			err = json.Unmarshal(b, v.to)
		}
		if d := cmp.Diff(v.from, v.to); err != nil || d != "" {
			t.Errorf("%s: %v %s", b, err, d)
		}
	}
}
