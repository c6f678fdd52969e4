package rules

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/testkit"
)

// Rules that somebody removed are back when nf_tables tells, or, once it tells no longer, without: nobody waits
// for the next look that is due anyway. The gap that is told begins no later than the true one.
func TestKeep(t *testing.T) {
	t.Parallel()
	closed, late := make(chan struct{}), make(chan struct{})
	close(closed)
	for what, changes := range map[string]func(context.Context) (<-chan struct{}, error){
		"told":           nftChanges,
		"no longer told": func(context.Context) (<-chan struct{}, error) { return closed, nil },
		"told late":      func(context.Context) (<-chan struct{}, error) { return late, nil },
		"was never told": func(context.Context) (<-chan struct{}, error) { return nil, nil },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, BackendNFT)
			f := e.open(t, parse(t, twoRules), nil)
			e.installs(t, f)
			var namespaces string
			e.Do(func() { namespaces = fmt.Sprintf("/proc/%d/task/%d/ns/", os.Getpid(), unix.Gettid()) })
			ctx, cancel := context.WithCancel(t.Context())
			gaps, ended := make(chan Gap, 1), make(chan struct{})
			go e.Do(func() {
				defer close(ended)
				told, err := changes(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				f.keep(ctx, told, time.Hour, func(g Gap) {
					select {
					case gaps <- g:
					case <-ctx.Done():
					}
				}, func() { t.Error("the rules cannot be repaired") })
			})
			defer func() { cancel(); <-ended }()
			for range 2 {
				time.Sleep(3 * keepEvery) // past the look that is due after a start and a repair
				// Not by e, whose thread Keep has.
				flush := exec.Command("nsenter", "--net="+namespaces+"net", "--mount="+namespaces+"mnt", "iptables", "-t", "raw", "-F")
				if out, err := flush.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				flushed := time.Now()
				if what == "told late" { // as if we had been stopped
					time.Sleep(3 * keepEvery)
					select {
					case late <- struct{}{}:
					case <-ended:
					}
				}
				select {
				case g := <-gaps:
					if g.Since.After(flushed) {
						t.Errorf("the rules were flushed by %v, the gap is %v", flushed, g)
					}
				case <-time.After(testkit.Patience):
					t.Fatal("the rules are not back")
				}
			}
			cancel()
			<-ended
			if s := e.status(t, f); !s.Healthy() {
				t.Errorf("after the repairs: %+v", s)
			}
		})
	}
}
