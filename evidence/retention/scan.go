package retention

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/tracefile"
)

// evidence is the files, and what the catalogue says about them.
type evidence struct {
	dir       *directory.Directory
	catalogue *catalogue.Reader
}

// scan lists the traces, packets and executables on the disk. The disk decides what exists; only the catalogue
// knows what is still written.
func (e evidence) scan() ([]stored, error) {
	running, err := e.catalogue.RunningCaptures()
	if err != nil {
		return nil, err
	}
	proven, err := e.catalogue.Proven()
	if err != nil {
		return nil, err
	}
	captures, err := fs.ReadDir(e.dir.Root().FS(), directory.Traces)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for traces: %w", err)
	}
	var all []stored
	for _, c := range captures {
		if !c.IsDir() {
			continue
		}
		traces, err := e.scanCapture(c.Name())
		if err != nil {
			return nil, err
		}
		for _, t := range traces {
			t.running = running[t.capture]
			t.proven = proven[t.id.String()]
			all = append(all, t)
		}
	}
	executables, err := e.scanExecutables(time.Now())
	return append(all, executables...), err
}

// scanCapture lists the traces of one capture, and its packets.
func (e evidence) scanCapture(capture string) (traces []stored, err error) {
	dir := path.Join(directory.Traces, capture)
	files, err := fs.ReadDir(e.dir.Root().FS(), dir) // sorted: the files of one trace are neighbours
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a daemon has just removed it
	}
	if err != nil {
		return nil, fmt.Errorf("look for the traces of a capture: %w", err)
	}
	var closed map[string]bool // nil: not needed yet
	for _, f := range files {
		name, unfinished := strings.CutSuffix(f.Name(), tracefile.Unfinished)
		name, compressed := strings.CutSuffix(name, tracefile.Suffix)
		_, id, ok := directory.ParseName(name)
		packets := strings.TrimSuffix(name, ".tmp") == directory.Packets
		if packets {
			name = directory.Packets
			id, err = ulid.ParseStrict(capture)
			ok = err == nil
		}
		info, err := f.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue // not ours, or just removed
		}
		name = path.Join(dir, name)
		if n := len(traces); n == 0 || traces[n-1].name != name {
			traces = append(traces, stored{id: id, capture: capture, name: name})
		}
		t := &traces[len(traces)-1]
		t.size += onDisk(info)
		switch {
		case unfinished:
			t.unfinished = true
		case !compressed && !packets: // a compressed trace is closed
			t.plain = true
			if closed == nil {
				if closed, err = e.catalogue.ClosedTraces(capture); err != nil {
					return nil, err
				}
			}
			t.open = !closed[id.String()]
		}
	}
	return traces, nil
}

// onDisk returns how many bytes a file takes on the disk.
func onDisk(info fs.FileInfo) int64 { return info.Sys().(*syscall.Stat_t).Blocks * 512 }

// plan plans what to remove.
func (e evidence) plan(b Bounds, traces []stored, now time.Time) (r Report, err error) {
	var u usage
	if u.free, err = e.dir.Free(); err != nil {
		return r, err
	}
	if u.catalogue, err = e.catalogue.Size(); err != nil {
		return r, err
	}
	r.Free, r.Bytes = u.free, u.catalogue
	for _, t := range traces {
		r.Bytes += t.size
	}
	r.Removed = plan(b, now, u, traces)
	return r, nil
}

// Preview says what a sweep of the evidence in dir would do. It counts traces with their size
// before compression, so it may list more than a sweep removes.
func Preview(dir string, b Bounds) (Report, error) {
	r, err := catalogue.OpenReader(dir)
	if err != nil {
		return Report{}, err
	}
	defer r.Close()
	d, err := directory.Open(dir)
	if err != nil {
		return Report{}, err
	}
	defer d.Close()
	return evidence{d, r}.preview(b)
}

func (e evidence) preview(b Bounds) (Report, error) {
	now := time.Now()
	traces, err := e.scan()
	if err != nil {
		return Report{}, err
	}
	r, err := e.plan(b, traces, now)
	if err != nil {
		return r, err
	}
	for _, t := range traces {
		if b.Compress && t.plain && !t.open && !t.running {
			r.Compressed++
		}
	}
	r.Expired, err = e.catalogue.Expirable(b.oldest(now))
	return r, err
}
