package capture

import (
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"culprit/capture/gate"
	"culprit/internal/event"
)

// tally is a Meter that adds up what it is told.
type tally struct {
	noMeter
	mu                sync.Mutex
	captures, straces int
	n                 map[string]int
	longest           time.Duration // of all that was measured
}

func (m *tally) count(what string, took ...time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n[what]++
	for _, d := range took {
		m.longest = max(m.longest, d)
	}
}

func (m *tally) Started()                            { m.count("started") }
func (m *tally) Attached(by string, d time.Duration) { m.count("attached by "+by, d) }
func (m *tally) AttachedAfter(d time.Duration)       { m.count("attached after a hit", d) }
func (m *tally) AttachFailed(why event.UntracedCode) { m.count("failed: " + string(why)) }
func (m *tally) Untraced(why event.UntracedCode)     { m.count("untraced: " + string(why)) }

func (m *tally) GateFailed()          { m.count("gate failed") }
func (m *tally) Held(d time.Duration) { m.count("held", d) }

func (m *tally) GateExpired(n uint64) {
	for range n {
		m.count("expired")
	}
}

func (m *tally) GateUnheld(n uint64) {
	for range n {
		m.count("unheld")
	}
}

func (m *tally) Running(captures, straces int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.captures, m.straces = captures, straces
}

func (m *tally) eventually(t *testing.T, rec *memory, what string, ok func() bool) {
	t.Helper()
	rec.eventually(t, what, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return ok()
	})
}

// Straces that run, and how long they took, are measured.
func TestMeter(t *testing.T) {
	const uid = 64320
	meter := &tally{n: map[string]int{}}
	k, m := control(t, "", func(k *Controller, _ *memory) { k.meter = meter })
	for range 2 {
		sleeper(t, uid, "exec sleep 60")
	}
	waitForSleep(t, m, uid)
	began := time.Now()
	k.Hit(hitOf(t, strconv.Itoa(uid), 0))
	meter.eventually(t, m, "both are traced and measured", func() bool {
		return meter.captures == 1 && meter.straces == 2 && meter.n["started"] == 1 &&
			meter.n["attached by "+event.FoundScan] == 2 && meter.n["attached after a hit"] == 2
	})
	if meter.longest <= 0 || meter.longest > time.Since(began) {
		t.Errorf("the slowest took %v, all together %v", meter.longest, time.Since(began))
	}
}

// Why processes are not traced is counted, each process once.
func TestMeterUntraced(t *testing.T) {
	for _, tt := range []struct {
		name, yaml, want string
		uid              uint32
		times            int
		change           func(*Controller, *memory)
	}{
		{"an excluded program", "guard: {never_executables: [/usr/bin/sle*]}", "untraced: never_executables", 64321, 2, nil},
		{"the level", "capture: {levels: [{hits: 1, processes: 1}, {hits: 100, processes: 2}]}", "untraced: level", 64322, 1, nil},
		{"the bound of straces", "capture: {concurrent: 1}", "untraced: concurrent", 64323, 1, nil},
		{"no file", "", "failed: no_file", 64324, 2, func(_ *Controller, m *memory) { m.noFiles = true }},
		{"no strace", "", "failed: not_started", 64325, 2, func(k *Controller, _ *memory) { k.strace.Path = "/nonexistent" }},
		{"another strace", "", "failed: silent", 64326, 2, func(k *Controller, _ *memory) { k.strace.Path = "/bin/false" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			meter := &tally{n: map[string]int{}}
			k, m := control(t, tt.yaml, func(k *Controller, m *memory) {
				k.meter = meter
				if tt.change != nil {
					tt.change(k, m)
				}
			})
			for range 2 {
				sleeper(t, tt.uid, "exec sleep 60")
			}
			waitForSleep(t, m, tt.uid)
			k.Hit(hitOf(t, strconv.Itoa(int(tt.uid)), 0))
			meter.eventually(t, m, tt.want, func() bool { return meter.n[tt.want] >= tt.times })
			k.Hit(hitOf(t, strconv.Itoa(int(tt.uid)), 0)) // and they are looked at no second time
			meter.eventually(t, m, "the second hit", func() bool { return m.only().Culprit.Hits == 2 })
			meter.mu.Lock()
			defer meter.mu.Unlock()
			if n := meter.n[tt.want]; strings.HasPrefix(tt.want, "untraced") && n != tt.times {
				t.Errorf("%d %s, want %d", n, tt.want, tt.times)
			}
		})
	}
}

// What the gate counts is told as it grows; a new gate begins with 0.
func TestMeterGate(t *testing.T) {
	t.Parallel()
	meter := &tally{n: map[string]int{}}
	o := gateOutput{meter: meter, send: func(message) {}}
	o.Counted(gate.Counts{Held: 9, Expired: 2, Busy: 1})
	o.Counted(gate.Counts{Held: 9, Expired: 2, Busy: 1})
	o.Counted(gate.Counts{Held: 20, Expired: 5, Busy: 1})
	o.Down(errors.New("it was killed"))
	o.Counted(gate.Counts{Held: 1, Expired: 1, Busy: 1})
	o.Gone(3 * time.Millisecond)
	want := map[string]int{"expired": 6, "unheld": 2, "gate failed": 1, "held": 1}
	if !maps.Equal(meter.n, want) || meter.longest != 3*time.Millisecond {
		t.Errorf("told %v, the longest hold %v; want %v, 3ms", meter.n, meter.longest, want)
	}
}
