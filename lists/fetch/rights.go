package fetch

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// environment is what the child keeps of ours: how to reach the network, and whom to trust there.
var environment = []string{"SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"}

// command makes the command of the child. It runs as uid and in its group alone, so it has no capabilities
// (capabilities(7), effect of user ID changes), and another program cannot give it any. If we are not root, it runs as we do.
func command(uid uint32) (*exec.Cmd, error) {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{"culprit", "fetch"}, Dir: "/", Env: []string{},
		// A terminal's Ctrl-C is for us, and when we are gone it has nobody to write to.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	for _, name := range environment {
		if value, found := os.LookupEnv(name); found {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	if os.Geteuid() != 0 {
		return cmd, nil
	}
	if uid == 0 {
		return nil, fmt.Errorf("root must not talk to the network: set lists.user")
	}
	gid := uid
	if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		if n, err := strconv.ParseUint(u.Gid, 10, 32); err == nil {
			gid = uint32(n)
		}
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: gid}
	return cmd, nil
}

// start starts the child. ended gets what Wait returns. no_new_privs is a property of threads that a new process inherits
// from the one that forks (prctl(2)), and pdeathsig strikes when that thread ends: so it has a thread of its own.
func start(cmd *exec.Cmd) (ended <-chan error, err error) {
	started, done := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = cmd.Start()
		}
		if started <- err; err == nil {
			done <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start culprit as the user who fetches (UID %d, who must be able to execute this program): %w", uidOf(cmd), err)
	}
	return done, nil
}

func uidOf(cmd *exec.Cmd) uint32 {
	if c := cmd.SysProcAttr.Credential; c != nil {
		return c.Uid
	}
	return uint32(os.Geteuid())
}

// harden is called by the child before it reads anything: it checks that nobody started it with more rights than
// it should have, and gives up what it will not need.
func harden() error {
	if os.Geteuid() == 0 || os.Getuid() == 0 {
		return fmt.Errorf("this must not run as root")
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return fmt.Errorf("read the own rights: %w", err)
	}
	for _, want := range []string{"CapPrm:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !bytes.Contains(status, []byte("\n"+want+"\n")) {
			return fmt.Errorf("this must not run with rights: not %q in /proc/self/status", want)
		}
	}
	// It writes to pipes only, and a core would hold what it has read.
	for _, limit := range []int{unix.RLIMIT_FSIZE, unix.RLIMIT_CORE} {
		if err := unix.Setrlimit(limit, &unix.Rlimit{}); err != nil {
			return fmt.Errorf("limit what it may do: %w", err)
		}
	}
	return nil
}
