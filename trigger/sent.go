package trigger

import (
	"culprit/internal/event"
	"culprit/internal/proc"
	"culprit/sensor"
)

// saw sets the hit's origin, process and container to what the kernel saw, and reports
// whether that is certain. The process may have ended since; then the hit has only its name.
func (f *originFinder) saw(h *event.Hit, sent sensor.Send, backlog int) bool {
	if !sent.Certain() {
		return false
	}
	h.Culprit.Origin.Grade = event.GradeKernel
	h.Culprit.Sent = &event.Sent{
		Timestamp: sent.At, TID: sent.TID, Syscall: sent.Syscall,
		User: f.users.User(sent.EUID), Cgroup: sent.Cgroup,
	}
	if backlog > busyBacklog && f.described.reuse(h, sent) {
		return true
	}
	pid := sent.Process.PID
	image, _ := f.fs.Image(pid)
	p, err := f.fs.Describe(pid, f.users)
	if err != nil || p.EntityID != sent.Process.String() {
		p = event.Process{PID: pid, EntityID: sent.Process.String(), Start: proc.StartTime(sent.Process.Start), Name: sent.Comm}
		user := f.users.User(sent.UID)
		p.RealUser = &user
		h.Process = &p
		f.locateGone(h, sent.Cgroup)
		return true
	}
	h.Culprit.Sent.Replaced = f.replaced(&p, image, sent)
	h.Process = &p
	f.remember(pid)
	f.locate(h, sent.Process)
	h.Culprit.Serves = f.served.of(sent.Process)
	f.described.keep(h, sent)
	return true
}

// locateGone says which container a process was in that has ended, by the cgroup that the kernel saw.
func (f *originFinder) locateGone(h *event.Hit, cgroup uint64) {
	h.Place = f.containers.OfCgroup(cgroup, 0)
	h.Within, h.Located = f.containers.WithinCgroup(cgroup)
}

// locateSocket says in which container the socket was made of a packet that names nobody. Others may have got the socket, so
// it says nothing if that was on the host.
func (f *originFinder) locateSocket(h *event.Hit, cgroup uint64) {
	f.locateGone(h, cgroup)
	h.Located = len(h.Within) > 0
}

// locate says which container the hit's process is in, and who its users are there.
func (f *originFinder) locate(h *event.Hit, id proc.ID) {
	place := f.containers.Of(id.PID)
	within, there := f.containers.Within(id.PID)
	users := []*event.User{h.User, h.Process.RealUser}
	if s := h.Culprit.Sent; s != nil {
		users = append(users, &s.User)
	}
	if place.Container != nil {
		f.containers.Inside(id.PID, users...)
	}
	// Otherwise all that may be of another process, which has got its PID.
	if st, err := f.fs.Stat(id.PID); err == nil && st.ID == id {
		h.Place, h.Within, h.Located = place, within, there
		return
	}
	for _, u := range users {
		if u != nil {
			u.Inside = event.Inside{}
		}
	}
	if s := h.Culprit.Sent; s != nil {
		f.locateGone(h, s.Cgroup)
	}
}

// replaced reports whether the process runs another program than the one that sent the packet, and then
// leaves it out: nobody is to be named for what another program did. before is the image of the process
// from before it was described.
func (f *originFinder) replaced(p *event.Process, before proc.Image, sent sensor.Send) bool {
	after, _ := f.fs.Image(p.PID)
	if before == sent.Image && after == sent.Image {
		return false
	}
	p.Name, p.Executable, p.CommandLine, p.WorkingDirectory = sent.Comm, "", "", ""
	// A process that ends has no image either, as one in the middle of an execve.
	st, err := f.fs.Stat(p.PID)
	return err == nil && !st.Dead()
}
