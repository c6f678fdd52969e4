package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"culprit/internal/config"
)

func kernel(context.Context, *config.Config) Check {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return warn("uname: "+err.Error(), "none known: please report this")
	}
	return ok("%s %s, %s", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]))
}

// neededCaps are the capabilities(7) without which culprit cannot work.
var neededCaps = []struct {
	bit  int
	name string
	why  string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "change the firewall and read its log"},
	{unix.CAP_NET_RAW, "CAP_NET_RAW", "run iptables"},
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "trace other users' processes"},
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "read other users' processes in /proc"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "enter network namespaces and hold programs at their start"},
}

func privileges(context.Context, *config.Config) Check {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fail(err.Error(), "mount /proc: mount -t proc proc /proc")
	}
	caps, err := parseCapEff(string(status))
	if err != nil {
		return warn(err.Error(), "none known: please report this")
	}
	lacking, why := lackingCaps(caps)
	who := fmt.Sprintf("UID %d", os.Geteuid())
	switch {
	case !isRoot():
		return fail("running as "+who, "run it as root: sudo culprit doctor")
	case len(lacking) == 0:
		return ok("%s, with every capability that culprit needs", who)
	}
	return fail(who+" without "+strings.Join(lacking, ", "),
		"give it what is needed to "+strings.Join(why, ", to ")+
			": in a systemd unit see CapabilityBoundingSet=, for a container --cap-add or --privileged")
}

// lackingCaps returns which of [neededCaps] are missing in the set, and what they are needed
// for.
func lackingCaps(caps uint64) (names, why []string) {
	if caps&(1<<unix.CAP_DAC_OVERRIDE) != 0 { // includes that right
		caps |= 1 << unix.CAP_DAC_READ_SEARCH
	}
	for _, c := range neededCaps {
		if caps&(1<<c.bit) == 0 {
			names, why = append(names, c.name), append(why, c.why)
		}
	}
	return names, why
}

// parseCapEff reads the effective capabilities from /proc/PID/status, see proc(5).
func parseCapEff(status string) (uint64, error) {
	text, err := statusField(status, "CapEff")
	if err != nil {
		return 0, err
	}
	caps, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("read CapEff of /proc/self/status: %w", err)
	}
	return caps, nil
}

func statusField(status, name string) (string, error) {
	for line := range strings.Lines(status) {
		if key, value, found := strings.Cut(line, ":"); found && key == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("find %s in /proc/PID/status: not there", name)
}

// The inode numbers of the first PID and user namespace are fixed
// (PROC_PID_INIT_INO and PROC_USER_INIT_INO, include/linux/proc_ns.h).
const (
	firstPIDNamespace  = "pid:[4026531836]"
	firstUserNamespace = "user:[4026531837]"
)

func container(context.Context, *config.Config) Check {
	const remedy = "run culprit on the host itself, or give the container the host's namespaces (docker run --privileged --pid=host --network=host --userns=host)"
	uids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without user namespaces
		return warn("cannot tell: "+err.Error(), "mount /proc")
	}
	var found []string
	if userNS, err := os.Readlink("/proc/self/ns/user"); err == nil && userNS != firstUserNamespace {
		found = append(found, "a user namespace: root in it is not root of the machine")
		if !fullUIDMap(string(uids)) {
			found = append(found, "UIDs outside of its map show as 65534")
		}
	}
	if pidNS, err := os.Readlink("/proc/self/ns/pid"); err == nil && pidNS != firstPIDNamespace {
		found = append(found, "a PID namespace: culprit sees no processes outside of it, and no process events")
	}
	if len(found) > 0 {
		return warn("runs inside "+strings.Join(found, ", and "), remedy)
	}
	for _, file := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(file); err == nil {
			return ok("a container (%s), with the host's PID and user namespaces", file)
		}
	}
	return ok("none: the machine's own PID and user namespaces")
}

// fullUIDMap reports whether a /proc/PID/uid_map maps every UID to itself, see
// user_namespaces(7).
func fullUIDMap(text string) bool {
	f := strings.Fields(text)
	return text == "" || len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295"
}

// ipv6On reports whether this network namespace sends IPv6 packets.
func ipv6On() (on bool, found string) {
	text, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, "off: the kernel has no IPv6"
	case err != nil:
		return true, "cannot tell: " + err.Error()
	case strings.TrimSpace(string(text)) != "0":
		return false, "off: net.ipv6.conf.all.disable_ipv6 is set"
	}
	return true, "on"
}

func ipv6(context.Context, *config.Config) Check {
	on, found := ipv6On()
	if !on {
		return warn(found+"; rules for IPv4 work", "nothing, if IPv6 is off on purpose; else: sysctl net.ipv6.conf.all.disable_ipv6=0, and no ipv6.disable=1 on the kernel command line")
	}
	return ok("%s", found)
}
