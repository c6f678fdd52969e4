package finder

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/container"
	"culprit/internal/proc"
	"culprit/internal/testkit"
)

// counts is an Output that waits for scans, and keeps nothing.
type counts struct{ scanned chan bool }

func (counts) Found(Process)    {}
func (counts) Exited(Exit)      {}
func (counts) Unseen(Owner)     {}
func (counts) Forbidden(int)    {}
func (c counts) Scanned(_ Scan) { c.scanned <- true }

// BenchmarkOthers is what a program of another ordinary user on the host takes, from its fork to its end, and how much processor time the finder spends on it:
// while nobody is watched, while a user in a container is, and while a whole container is, by turns.
func BenchmarkOthers(b *testing.B) {
	testkit.Root(b)
	all := container.New(proc.Default)
	within := func(pid int) []string { ids, _ := all.Within(pid); return ids }
	out := counts{make(chan bool, 1)}
	f := New(proc.Default, func() Guard { return permissive{} }, within, slog.New(slog.DiscardHandler), out)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	const programs = 200
	loop := fmt.Sprintf("i=0; while [ $i -lt %d ]; do /bin/true; i=$((i+1)); done", programs)
	took, spent := map[string][]float64{}, map[string][]float64{}
	for b.Loop() {
		for _, of := range []struct {
			name string
			set  map[Owner]Target
		}{
			{"nobody", nil},
			{"a user", map[Owner]Target{{UID: 64399, Container: "c"}: {}}},
			{"a container", map[Owner]Target{{UID: AnyUser, Container: "c"}: {}}},
		} {
			f.Watch(of.set)
			if of.set != nil {
				<-out.scanned
			}
			before, began := processorTime(), time.Now()
			others := exec.Command("/bin/sh", "-c", loop)
			others.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64398, Gid: 64398}}
			if err := others.Run(); err != nil {
				b.Fatal(err)
			}
			took[of.name] = append(took[of.name], float64(time.Since(began).Microseconds())/programs)
			spent[of.name] = append(spent[of.name], float64((processorTime()-before).Microseconds())/programs)
		}
	}
	for name := range took {
		slices.Sort(took[name])
		slices.Sort(spent[name])
		b.ReportMetric(took[name][len(took[name])/2], "µs-a-program/"+strings.ReplaceAll(name, " ", "-"))
		b.ReportMetric(spent[name][len(spent[name])/2], "µs-finder/"+strings.ReplaceAll(name, " ", "-"))
	}
	b.ReportMetric(0, "ns/op")
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
