package snapshot

import (
	"fmt"
	"strconv"
	"strings"

	"culprit/internal/event"
	"culprit/internal/proc"
)

// maxText is how much is kept of one argument or variable, in bytes of JSON; see [event.Cut].
const maxText = 4096

// describe reads the names of the process, and its parents.
func (t *Taker) describe(id proc.ID) put {
	p, err := t.FS.Describe(id.PID, t.Users)
	place := t.Containers.Of(id.PID)
	if err != nil {
		return missed(event.PartProcess, err)
	}
	return func(d *event.Snapshot, _ *sight) {
		d.Process.Process = p
		d.Place = place
	}
}

// args reads the arguments. A process can write over them.
func (t *Taker) args(pid int) put {
	text, more, err := t.file(pid, "cmdline")
	if err != nil {
		return missed(event.PartArgs, err)
	}
	args := list(text)
	return func(d *event.Snapshot, _ *sight) {
		d.Process.Args = args
		if more {
			d.Culprit.Miss(event.PartArgs, event.IncompleteTooLarge, "")
		}
	}
}

// environment reads the variables with which the program was started.
func (t *Taker) environment(pid int) put {
	text, more, err := t.file(pid, "environ")
	if err != nil {
		return missed(event.PartEnvironment, err)
	}
	variables := list(text)
	return func(d *event.Snapshot, _ *sight) {
		d.Process.EnvVars = variables
		if more {
			d.Culprit.Miss(event.PartEnvironment, event.IncompleteTooLarge, "")
		}
	}
}

// list splits what ends in zero bytes.
func list(text []byte) (all []string) {
	if len(text) == 0 {
		return nil
	}
	for one := range strings.SplitSeq(strings.TrimRight(string(text), "\x00"), "\x00") {
		all = append(all, event.Cut(one, maxText))
	}
	return all
}

// identity reads who the process is: all of its user and group ids, its threads, its cgroup.
func (t *Taker) identity(pid int) put {
	text, _, err := t.file(pid, "status")
	if err != nil {
		return missed(event.PartProcess, err)
	}
	s := parseStatus(string(text))
	group, _, _ := t.file(pid, "cgroup")
	cgroup := event.Cut(parseCgroup(string(group)), 1024)
	users := make([]*event.User, 4)
	for i, uid := range s.uids[:min(len(s.uids), len(users))] {
		u := t.Users.User(uid)
		users[i] = &u
	}
	t.Containers.Inside(pid, users...)
	return func(d *event.Snapshot, _ *sight) {
		p := &d.Process
		group := func(i int) *event.Group {
			if i >= len(s.gids) {
				return nil
			}
			return &event.Group{ID: fmt.Sprint(s.gids[i])}
		}
		p.RealUser, p.User, p.SavedUser, d.Culprit.FSUser = users[0], users[1], users[2], users[3]
		p.RealGroup, p.Group, p.SavedGroup, d.Culprit.FSGroup = group(0), group(1), group(2), group(3)
		for _, g := range s.groups[:min(len(s.groups), maxGroups)] {
			p.Supplementary = append(p.Supplementary, event.Group{ID: fmt.Sprint(g)})
		}
		d.Culprit.LeaveOut(event.PartProcess, len(s.groups)-maxGroups)
		d.Culprit.Threads, d.Culprit.Cgroup = s.threads, cgroup
	}
}

// maxGroups bounds the supplementary groups; there can be 65536.
const maxGroups = 256

// status is what we need of /proc/PID/status (man 5 proc).
type status struct {
	uids, gids []uint32 // real, effective, saved, file system
	groups     []uint32
	threads    int
}

func parseStatus(text string) (s status) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "Uid":
			s.uids = numbers(value)
		case "Gid":
			s.gids = numbers(value)
		case "Groups":
			s.groups = numbers(value)
		case "Threads":
			s.threads, _ = strconv.Atoi(strings.TrimSpace(value))
			return s
		}
	}
	return s
}

func numbers(text string) (ns []uint32) {
	for field := range strings.FieldsSeq(text) {
		if n, err := strconv.ParseUint(field, 10, 32); err == nil {
			ns = append(ns, uint32(n))
		}
	}
	return ns
}

// parseCgroup returns the path of the process in the unified hierarchy, otherwise in systemd's,
// otherwise in the first that there is (man 7 cgroups).
func parseCgroup(text string) (path string) {
	for line := range strings.Lines(text) {
		id, rest, _ := strings.Cut(strings.TrimRight(line, "\n"), ":")
		controllers, at, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case id == "0" && controllers == "" && (at != "/" || path == ""):
			return at
		case controllers == "name=systemd" || path == "":
			path = at
		}
	}
	return path
}
