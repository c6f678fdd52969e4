package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"culprit/internal/config"
)

var straceVersionLine = regexp.MustCompile(`^strace -- version (\d+)\.(\d+)`)

// straceInfo is what strace -V says.
type straceInfo struct {
	major, minor int
	stacks       string // the library that -k uses; empty if -k is not built in
}

func (v straceInfo) before(major, minor int) bool {
	return v.major < major || v.major == major && v.minor < minor
}

// parseStrace reads what strace -V prints. The line of features is there since 4.19.
func parseStrace(out string) (straceInfo, error) {
	m := straceVersionLine.FindStringSubmatch(out)
	if m == nil {
		return straceInfo{}, fmt.Errorf("find a version in %q: there is none", firstLine(out))
	}
	var v straceInfo
	var err error
	if v.major, err = strconv.Atoi(m[1]); err != nil {
		return v, fmt.Errorf("read strace's version: %w", err)
	}
	if v.minor, err = strconv.Atoi(m[2]); err != nil {
		return v, fmt.Errorf("read strace's version: %w", err)
	}
	_, features, _ := strings.Cut(out, "Optional features enabled:")
	features, _, _ = strings.Cut(features, "\n")
	for _, f := range strings.Fields(features) {
		if lib, found := strings.CutPrefix(f, "stack-trace="); found {
			v.stacks = lib
		} else if f == "stack-unwind" || f == "stack-trace" { // before 4.21
			v.stacks = "libunwind"
		}
	}
	return v, nil
}

func straceCommand(ctx context.Context, c *config.Config) Check {
	path, remedy, err := lookPath("strace", "strace")
	if err != nil {
		return fail(err.Error(), remedy)
	}
	out, err := output(ctx, nil, path, "-V")
	if err != nil {
		return fail(fmt.Sprintf("run %s -V: %v: %s", path, err, firstLine(out)), "install the package strace again")
	}
	v, err := parseStrace(out)
	if err != nil {
		return fail(err.Error(), "install the package strace again")
	}
	found := fmt.Sprintf("strace %d.%d (%s)", v.major, v.minor, path)
	switch {
	case v.before(4, 10):
		return fail(found+" cannot show the addresses of sockets (-yy)", "install strace 4.22 or later")
	case v.before(4, 22):
		return warn(found+" writes IPv6 addresses without brackets", "install strace 4.22 or later; until then the line that sent a packet is not found for IPv6")
	case v.stacks == "" && wantsStacks(c):
		return warn(found+" cannot print call stacks (-k)", "nothing else is lost; to be without this warning set stacks: false in capture.levels, or install a strace built with libunwind or libdw")
	case v.stacks == "":
		return ok("%s, without call stacks (-k)", found)
	}
	return ok("%s, with call stacks (-k, by %s)", found, v.stacks)
}

func wantsStacks(c *config.Config) bool {
	for _, l := range c.Capture.Levels {
		if l.Stacks {
			return true
		}
	}
	return false
}

func ptraceScope(context.Context, *config.Config) Check {
	return scope("/proc/sys/kernel/yama/ptrace_scope")
}

// scope reads Yama's limit on ptrace (Documentation/admin-guide/LSM/Yama.rst).
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
		return warn("Yama's ptrace_scope is "+level+", which is not known here", "see whether the check \"attaching\" is ok")
	}
}

// nobody is the UID of the process that attaching is tried on: one that is not ours.
const nobody = 65534

// attaching lets strace attach to a process started for it, and let it go.
func attaching(ctx context.Context, _ *config.Config) Check {
	if !isRoot() {
		return cannotTell()
	}
	strace, remedy, err := lookPath("strace", "strace")
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
		// No right to become somebody else: the daemon needs none.
		target = exec.CommandContext(ctx, sleep, "60")
		if err := target.Start(); err != nil {
			return warn("cannot tell: start "+sleep+": "+err.Error(), "see whether anything can be started: ulimit -u, free -m")
		}
	}
	defer func() {
		cancel() // kills it
		_ = target.Wait()
	}()
	took, err := attach(ctx, strace, target.Process.Pid)
	if err != nil {
		return fail(err.Error(), attachRemedy())
	}
	return ok("strace attached to a process in %d ms, and let it go again", took.Milliseconds())
}

// attach runs strace on the process until it has attached, and ends it.
func attach(ctx context.Context, strace string, pid int) (time.Duration, error) {
	start := time.Now()
	tracer := exec.CommandContext(ctx, strace, "-o", "/dev/null", "-p", strconv.Itoa(pid))
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
	_ = tracer.Wait() // it dies of the signal: no news
	line = strings.TrimSpace(line)
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("attach to a process: strace did not do it in %d ms", took.Milliseconds())
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
	return "see the checks of privileges and ptrace; else a security module (dmesg, ausearch -m avc) or a container's seccomp filter forbids ptrace"
}
