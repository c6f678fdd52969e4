package doctor

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"culprit/internal/config"
	"culprit/internal/fanotify"
	"culprit/internal/strace"
	"culprit/sensor"
)

func straceCommand(ctx context.Context, c *config.Config) Check {
	p, err := strace.Find(ctx)
	if errors.Is(err, strace.ErrNotInstalled) {
		_, remedy, err := lookPath("strace", "strace")
		return fail(err.Error(), remedy)
	}
	if err != nil {
		return fail(err.Error(), "reinstall the package strace")
	}
	found := fmt.Sprintf("strace %s (%s)", p.Version(), p.Path)
	switch {
	case p.Before(4, 10):
		return fail(found+" cannot show the addresses of sockets (-yy)", "install strace 4.22 or later")
	case p.Before(4, 22):
		return warn(found+" writes IPv6 addresses without brackets", "install strace 4.22 or later; until then culprit does not find the line that sent an IPv6 packet")
	case p.Stacks == "" && c.Capture.WantsStacks():
		return warn(found+" cannot print call stacks (-k)", "nothing else is lost; to silence this, set stacks: false in capture.levels, or install a strace built with libunwind or libdw")
	case p.Stacks == "":
		return ok("%s, without call stacks (-k)", found)
	}
	return ok("%s, with call stacks (-k, by %s)", found, p.Stacks)
}

func ptraceScope(context.Context, *config.Config) Check {
	return scope("/proc/sys/kernel/yama/ptrace_scope")
}

// scope checks Yama's limit on ptrace (Documentation/admin-guide/LSM/Yama.rst).
func scope(file string) Check {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return ok("no limits: this kernel has no Yama")
	}
	if err != nil {
		return warn("cannot tell: "+err.Error(), "run it as root: sudo culprit doctor")
	}
	switch level := strings.TrimSpace(string(text)); level {
	case "0", "1", "2":
		return ok("Yama's ptrace_scope is %s: root may attach", level)
	case "3":
		return fail("Yama's ptrace_scope is 3: nobody may attach to a process, not even root",
			"it cannot be lowered while the machine runs: set kernel.yama.ptrace_scope to 2 or less in /etc/sysctl.d, and reboot")
	default:
		return warn("Yama's ptrace_scope is "+level+", which culprit does not know", "see whether the check \"attaching\" is ok")
	}
}

// nobody is the UID of the process to attach to, which must not be ours.
const nobody = 65534

// attaching lets strace attach to a process started for it, and detach.
func attaching(ctx context.Context, _ *config.Config) Check {
	if !isRoot() {
		return cannotTell()
	}
	program, remedy, err := lookPath("strace", "strace")
	if err != nil {
		return fail("cannot tell: "+err.Error(), remedy)
	}
	sleep, remedy, err := lookPath("sleep", "coreutils")
	if err != nil {
		return warn("cannot tell: "+err.Error(), remedy)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	target := exec.CommandContext(ctx, sleep, "60")
	target.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if target.Start() != nil {
		// We may not change the UID, which the daemon never needs to.
		target = exec.CommandContext(ctx, sleep, "60")
		if err := target.Start(); err != nil {
			return warn("cannot tell: start "+sleep+": "+err.Error(), "see whether anything can be started: ulimit -u, free -m")
		}
	}
	defer func() {
		cancel() // kills it
		_ = target.Wait()
	}()
	took, err := attach(ctx, program, target.Process.Pid)
	if err != nil {
		return fail(err.Error(), attachRemedy())
	}
	return ok("strace attached to a process in %d ms, and detached again", took.Milliseconds())
}

// gate checks whether programs can be held at their start until strace is attached.
func gate(_ context.Context, c *config.Config) Check {
	if c.Capture.Gate == config.GateOff {
		return ok("off (capture.gate)")
	}
	if !isRoot() {
		return cannotTell()
	}
	var noBPF string
	if c.Capture.Gate == config.GateAuto || c.Capture.Gate == config.GateBPF {
		s, err := sensor.Open(sensor.Config{Hold: true, AtOnce: 1})
		if err == nil {
			err = cmp.Or(s.NoHold(), s.Close())
		}
		switch {
		case err == nil:
			return ok("the kernel stops programs before their first instruction until strace attaches (BPF)")
		case c.Capture.Gate == config.GateBPF:
			return fail(err.Error(), "set capture.gate: auto")
		}
		noBPF = fmt.Sprintf("; not by BPF: %v", err)
	}
	if err := fanotify.Probe(); err != nil {
		return warn(err.Error(), "nothing else is lost: traces then begin some milliseconds after a program's start; capture.gate: off hides this")
	}
	if c.Capture.Gate == config.GateStop || !fanotify.AttachInExecve() {
		return ok("programs are stopped after their execve until strace attaches (SIGSTOP, as before Linux 6.8)%s", noBPF)
	}
	return ok("programs are held in their execve until strace attaches (FAN_OPEN_EXEC_PERM)%s", noBPF)
}

// callStacks checks whether snapshots can have a call stack.
func callStacks(context.Context, *config.Config) Check {
	path, remedy, err := lookPath("eu-stack", "elfutils")
	if err != nil {
		return warn(err.Error(), remedy+"; nothing else is lost: snapshots of programs then have no call stack")
	}
	return ok("%s prints the call stacks of snapshots", path)
}

// attach runs strace on the process until it has attached, and ends it.
func attach(ctx context.Context, program string, pid int) (time.Duration, error) {
	start := time.Now()
	tracer := exec.CommandContext(ctx, program, "-o", "/dev/null", "-p", strconv.Itoa(pid))
	tracer.WaitDelay = time.Second
	stderr, err := tracer.StderrPipe()
	if err != nil {
		return 0, fmt.Errorf("make a pipe for strace: %w", err)
	}
	if err := tracer.Start(); err != nil {
		return 0, fmt.Errorf("start strace: %w", err)
	}
	// Its first line is either an error or "strace: Process 123 attached".
	line, _ := bufio.NewReader(stderr).ReadString('\n')
	took := time.Since(start)
	_ = tracer.Process.Signal(syscall.SIGTERM)
	_ = tracer.Wait() // the signal ends it, as expected
	line = strings.TrimSpace(line)
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("attach to a process: strace did not attach within %d ms", took.Milliseconds())
	case !strings.HasSuffix(line, " attached"):
		return 0, fmt.Errorf("attach to a process: %s", line)
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("look at the process after strace: %w", err)
	}
	if tracerPID, err := statusField(string(status), "TracerPid"); err != nil || tracerPID != "0" {
		return 0, fmt.Errorf("let the process go: it still has the tracer %s", tracerPID)
	}
	return took, nil
}

func attachRemedy() string {
	if text, err := os.ReadFile("/sys/fs/selinux/booleans/deny_ptrace"); err == nil && strings.HasPrefix(string(text), "1") {
		return "SELinux forbids it: setsebool deny_ptrace off"
	}
	return "see the checks of privileges and ptrace; otherwise a security module (dmesg, ausearch -m avc) or a container's seccomp filter forbids ptrace"
}
