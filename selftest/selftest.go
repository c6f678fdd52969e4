// Package selftest runs a small but complete hunt on this machine, in a network namespace of
// its own, and says which parts of culprit work here and how fast.
//
// The real daemon hunts, in a child process running culprit run. The firewall, the resolver and
// the offender are our own. The selftest never touches the machine's own firewall; the gate
// holds programs of one unused user only.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"culprit/internal/event"
	"culprit/sensor"
)

// Status is the result of a check.
type Status string

// The results of a check.
const (
	OK      Status = "ok"
	Failed  Status = "failed"
	NotHere Status = "not here" // the machine lacks what would be tested
	Skipped Status = "skipped"  // an earlier failure, which has its own check, prevented it
)

// A Check is a check and its result. Found can contain the output of other programs: escape it
// before printing.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"` // what to do, if it failed
	// Values are the numbers in Found, named with their unit, such as "p50_ms".
	Values map[string]float64 `json:"values,omitempty"`
}

func (c Check) failed() bool { return c.Status == Failed }

// Report is the whole result, in the shape of package event.
type Report struct {
	Timestamp time.Time      `json:"@timestamp"`
	Event     Outcome        `json:"event"`
	Observer  event.Observer `json:"observer"`
	Culprit   Detail         `json:"culprit"`
}

// Outcome is the "event" object of a report.
type Outcome struct {
	event.Meta
	Outcome string `json:"outcome"` // success or failure
}

// Detail holds the fields that ECS does not have.
type Detail struct {
	Checks   []Check  `json:"checks"`
	Versions Versions `json:"versions"`
	// Log has the most important lines of the daemons' logs, if something failed.
	Log []string `json:"log,omitempty"`
	// Kept is the directory with evidence, configurations and logs, if it was kept.
	Kept string `json:"kept,omitempty"`
}

// Failures counts the checks that failed.
func (r *Report) Failures() (n int) {
	for _, c := range r.Culprit.Checks {
		if c.failed() {
			n++
		}
	}
	return n
}

// Options say how to run.
type Options struct {
	Version string // of culprit
	Keep    bool   // leave the directory
	// Program is the culprit to test. Empty: the running program.
	Program string
}

// limit bounds everything up to stopping the last daemon. A healthy machine takes some seconds, one that is busy with other things tens of them.
const limit = time.Minute

// Run hunts with each installed backend of iptables. It needs root, takes some seconds, on a busy machine a minute or a little more,
// and leaves nothing behind, even if ctx ends before. An error without a report says that
// nothing could be tried at all.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := newSession(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	var hunts []*hunt
	done := make(chan struct{})
	go func() {
		defer close(done)
		// This thread changes its namespace. It stays locked, so it ends with the goroutine,
		// and the processes that it started are killed with it.
		runtime.LockOSThread()
		full := true
		for _, b := range findBackends(ctx, s.dir) {
			hunts = append(hunts, s.hunt(ctx, &hunt{backend: b, full: full}))
			if full && b.absent["ipv4"] == "" {
				full = false
				for _, way := range sensor.Ways() {
					hunts = append(hunts, s.hunt(ctx, &hunt{backend: b, sensor: way}))
				}
				hunts = append(hunts, s.hunt(ctx, &hunt{backend: b, elsewhere: true}))
			}
		}
	}()
	<-done

	r = &Report{
		Timestamp: began,
		Event:     Outcome{event.Meta{ID: event.NewID(), Kind: "event", Action: "selftest", Start: &began}, "success"},
		Observer:  event.Observer{Product: "culprit", Version: o.Version},
		Culprit:   Detail{Checks: judge(hunts), Versions: findVersions(context.WithoutCancel(ctx), o.Version)},
	}
	if r.Failures() > 0 {
		r.Event.Outcome = "failure"
		for _, h := range hunts {
			if slices.ContainsFunc(h.checks(), Check.failed) {
				r.Culprit.Log = append(r.Culprit.Log, importantLines(h.log)...)
			}
		}
	}
	if o.Keep {
		r.Culprit.Kept = s.dir
	}
	r.Event.Finish(time.Now())
	return r, nil
}

// A session is what all hunts share.
type session struct {
	dir     string // for evidence, configurations and logs
	keep    bool
	program string   // the path of culprit
	file    *os.File // that of the offenders, open: others may not enter its directory
	uid     uint32   // of the offenders
	number  int      // of offenders so far
}

func newSession(o Options) (_ *session, err error) {
	s := &session{keep: o.Keep, program: o.Program}
	if s.program == "" {
		if s.program, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find the program that runs: %w", err)
		}
	}
	if s.uid, err = unusedUID(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "culprit-selftest-"); err == nil { // 0700
		s.file, err = s.copyProgram()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare a hunt: %w", err), os.RemoveAll(s.dir))
	}
	return s, nil
}

// copyProgram makes the program of the offenders, a copy of our own: the daemon's gate lets that
// one pass, whoever runs it.
func (s *session) copyProgram() (*os.File, error) {
	from, err := os.Open(s.program)
	if err != nil {
		return nil, fmt.Errorf("open the program that runs: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(s.path(offenderName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err == nil {
		_, err = io.Copy(to, from)
		err = errors.Join(err, to.Chmod(0o755), to.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("copy the program that runs: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err == nil && fs.Flags&unix.ST_NOEXEC != 0 {
		return nil, fmt.Errorf("nothing can be executed in %s: set TMPDIR to a directory where that is possible", s.dir)
	}
	return os.Open(s.path(offenderName))
}

const offenderName = "offender"

func (s *session) close() error {
	s.file.Close()
	if s.keep {
		return os.Remove(s.path(offenderName))
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove what the self-test wrote: %w", err)
	}
	return nil
}

// path returns a path below the session's directory.
func (s *session) path(name string) string { return filepath.Join(s.dir, name) }
