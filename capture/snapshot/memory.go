package snapshot

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// registers reads the registers that the kernel shows of a thread that stands still.
func (t *Taker) registers(pid, tid int) put {
	const tries = 20 // it may still be on its way to where it stops
	for try := 0; ; try++ {
		text, _, err := t.file(pid, fmt.Sprintf("task/%d/syscall", tid))
		if err != nil {
			return missed(event.PartRegisters, err)
		}
		if strings.HasPrefix(string(text), "running") && try < tries {
			time.Sleep(50 * time.Microsecond)
			continue
		}
		r, err := parseSyscall(string(text))
		if err != nil {
			return missed(event.PartRegisters, err)
		}
		r.TID = tid
		return func(d *event.Snapshot, _ *sight) { d.Culprit.Registers = r }
	}
}

// parseSyscall reads /proc/PID/task/TID/syscall (man 5 proc): number, six arguments, stack
// pointer, program counter; "-1", stack pointer, program counter outside of a system call.
func parseSyscall(text string) (*event.Registers, error) {
	f := strings.Fields(text)
	if len(f) != 9 && (len(f) != 3 || f[0] != "-1") {
		return nil, fmt.Errorf("the kernel shows no registers: %.40q", text)
	}
	number, err := strconv.Atoi(f[0])
	for _, value := range f[1:] {
		_, wrong := strconv.ParseUint(value, 0, 64)
		err = errors.Join(err, wrong)
	}
	if err != nil {
		return nil, fmt.Errorf("the kernel shows no registers: %w", err)
	}
	n := len(f)
	return &event.Registers{Syscall: number, Args: f[1 : n-2], SP: f[n-2], PC: f[n-1]}, nil
}

// maps reads which files are mapped, and the mounts that they may be on.
func (t *Taker) maps(pid int) put {
	text, more, err := t.file(pid, "maps")
	if err != nil {
		return missed(event.PartMaps, err)
	}
	all, devices := parseMaps(string(text))
	mounts, _, _ := t.file(pid, "mountinfo")
	return func(d *event.Snapshot, seen *sight) {
		d.Culprit.Maps = all
		seen.devices, seen.mapsRead, seen.mounts = devices, !more, proc.ParseMounts(mounts)
		if more {
			d.Culprit.Miss(event.PartMaps, event.IncompleteTooLarge, "")
		}
	}
}

// parseMaps reads /proc/PID/maps (man 5 proc). It joins mappings of one file that follow each
// other, and leaves out memory without a file that cannot be executed. devices are those of the
// files, as mountinfo writes them.
func parseMaps(text string) (all []event.Mapping, devices map[string]bool) {
	devices = map[string]bool{}
	for line := range strings.Lines(text) {
		// "7f1c-7f2d r-xp 00028000 fe:00 3145 <blanks> /usr/lib/libc.so.6"; a path may hold blanks.
		line, whole := strings.CutSuffix(line, "\n")
		var f [5]string
		rest := line
		for i := range f {
			f[i], rest, _ = strings.Cut(rest, " ")
		}
		start, end, ok := strings.Cut(f[0], "-")
		if !ok || !whole || len(f[1]) != 4 || !isHex(start) || !isHex(end) {
			continue
		}
		path := strings.TrimLeft(rest, " ")
		isFile := f[4] != "0" && f[4] != ""
		if isFile {
			if device := device(f[3]); device != "" {
				devices[device] = true
			}
		} else if f[1][2] != 'x' {
			continue
		}
		path = event.Cut(path, 1024)
		if n := len(all); n > 0 && all[n-1].Path == path && isFile {
			all[n-1].End, all[n-1].Permissions = "0x"+end, union(all[n-1].Permissions, f[1])
			continue
		}
		all = append(all, event.Mapping{Start: "0x" + start, End: "0x" + end, Permissions: f[1][:3], Path: path})
	}
	return all, devices
}

func isHex(s string) bool {
	_, err := strconv.ParseUint(s, 16, 64)
	return err == nil
}

// device turns maps' hexadecimal "fe:00" into mountinfo's decimal "254:0".
func device(hex string) string {
	major, minor, _ := strings.Cut(hex, ":")
	a, err1 := strconv.ParseUint(major, 16, 32)
	b, err2 := strconv.ParseUint(minor, 16, 32)
	if err1 != nil || err2 != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d", a, b)
}

// union returns the permissions that either has.
func union(a, b string) string {
	both := []byte(a)
	for i := range both {
		if b[i] != '-' {
			both[i] = b[i]
		}
	}
	return string(both)
}

// mayHang returns the type of a file system of a mapped file on which reading may never end, or
// "".
func (s *sight) mayHang() string {
	for _, m := range s.mounts {
		if s.devices[m.Device] && m.MayHang() {
			return m.Kind
		}
	}
	return ""
}
