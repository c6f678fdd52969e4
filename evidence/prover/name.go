package prover

import (
	"time"

	"culprit/evidence/proof"
	"culprit/internal/event"
	"culprit/internal/proc"
)

// tick is the resolution of the start time of a process.
const tick = 10 * time.Millisecond

// describe makes the thread of a proof its process, if it is the main thread of one that strace
// followed from its parent and that still runs.
func (p *Prover) describe(pr *event.Proof) bool {
	its, ok := p.processes.Process(pr.Culprit.TID)
	if !ok || its.Start.After(pr.Timestamp.Add(tick)) {
		return false
	}
	pr.Process = its
	return true
}

// setProgram makes a program the process of a proof. It refuses a program that had the same PID
// at another time.
func setProgram(pr *event.Proof, program event.Program) bool {
	if program.Process.PID != pr.Culprit.TID || program.Process.Start.After(pr.Timestamp.Add(tick)) ||
		program.Event.End != nil && program.Event.End.Before(pr.Timestamp) {
		return false
	}
	of := pr.Process
	pr.Process = program.Process
	if parent := pr.Process.Parent; of.PID != pr.Process.PID && (parent == nil || parent.PID == of.PID) {
		pr.Process.Parent = &of // with its parents
	}
	return true
}

// newProof makes the document of a proof. Its process is the one that the kernel saw
// send the packet, or else that of the trace.
func newProof(t event.Trace, m proof.Match) event.Proof {
	its := t.Process
	// The kernel knows which process it is, and the trace may show what it became since.
	if seen(m) && (m.Hit.Process.PID != its.PID || m.Hit.Process.Executable != "" || m.Hit.Culprit.Sent.Replaced) {
		its = *m.Hit.Process
	}
	return event.Proof{
		Timestamp: m.Send.Time,
		Event:     event.Meta{ID: event.NewID(), Kind: "event", Action: event.ActionProof},
		Rule:      m.Hit.Rule, User: t.User, Process: its, File: t.File,
		Culprit: event.ProofDetail{
			Capture: t.Culprit.Capture, Hit: event.Reference{ID: m.Hit.Event.ID}, Trace: event.Reference{ID: t.Event.ID},
			Probable: m.Probable, Kernel: m.Kernel, Parts: m.Parts, TID: m.Send.TID, Syscall: m.Send.Syscall, Line: m.Send.Line, Offset: m.Send.Offset,
		},
	}
}

// seen reports whether the kernel saw the thread of a proof, and so which process it belongs to.
func seen(m proof.Match) bool {
	sent := m.Hit.Culprit.Sent
	return sent != nil && sent.TID == m.Send.TID && m.Hit.Process != nil
}

// named reports whether a proof has its process. Of one that the kernel saw, and that had ended by
// then, the hit has only the name.
func named(pr *event.Proof, m proof.Match) bool {
	if seen(m) {
		return m.Hit.Culprit.Sent.Replaced || pr.Process.Executable != "" || pr.Process.CommandLine != "" || pr.Process.PID != pr.Culprit.TID
	}
	return pr.Process.PID == pr.Culprit.TID
}

// name remembers a program, and makes it the process of the proofs that it is the process of.
func (p *Prover) name(c *comparison, program event.Program) {
	pid := program.Process.PID
	if len(c.programs) >= maxNamed {
		clear(c.programs)
	}
	c.programs[pid] = program
	for _, pr := range c.unnamed[pid] {
		if setProgram(&pr, program) {
			p.out.Proof(pr)
		}
	}
	delete(c.unnamed, pid)
}

// Proc looks at the processes of this machine in /proc. It belongs to one Prover.
type Proc struct{ users proc.Users }

// Process describes the process whose main thread tid is.
func (m *Proc) Process(tid int) (event.Process, bool) {
	status, err := proc.Default.Status(tid)
	if err != nil || status.TGID != tid {
		return event.Process{}, false
	}
	its, err := proc.Default.Describe(tid, &m.users)
	return its, err == nil
}
