package container

import (
	"slices"
	"strings"
)

// The runtimes, as container.runtime of ECS names them.
const (
	Docker     = "docker"
	Containerd = "containerd"
	CRIO       = "cri-o"
	Podman     = "podman"
	LXC        = "lxc"
	Nspawn     = "systemd-nspawn"
)

// Runtimes returns all runtimes.
func Runtimes() []string { return []string{Docker, Containerd, CRIO, Podman, LXC, Nspawn} }

// A claim is what the path of a cgroup says: that a container is here. Whoever may make cgroups can
// claim anything.
type claim struct {
	id      string
	runtime string // "": the path does not tell
	path    string // of the cgroup whose name has the id
	line    hierarchy
	pod     string // the UID of the Kubernetes pod around it
	// weak says that any directory could have this name: only a file of the runtime makes it a
	// container.
	weak bool
}

// A hierarchy is the second field of /proc/PID/cgroup: the controllers of cgroup v1, "name=systemd",
// or "" for cgroup v2.
type hierarchy string

// Bounds for a path that its process may have made: the kernel bounds it by PATH_MAX, and
// cgroup.max.depth has no bound by default.
const (
	maxClaims  = 8
	maxPodUID  = 64
	maxNameLen = 128
)

// parse reads /proc/PID/cgroup (man 7 cgroups) and returns what its paths claim. The hierarchy
// of cgroup v2 comes first, then systemd's, then others; of each path the innermost comes first.
func parse(text string) (claims []claim) {
	var systemd, others []claim
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, found := strings.Cut(rest, ":")
		if !ok || !found {
			continue
		}
		path = strings.TrimSuffix(path, " (deleted)") // the process has ended, and the container with it
		switch of := claimsOf(path, hierarchy(controllers)); controllers {
		case "":
			claims = append(claims, of...)
		case "name=systemd":
			systemd = append(systemd, of...)
		default:
			others = append(others, of...)
		}
	}
	// Most hierarchies of v1 say the same. A container in a container may be in those of v1 alone, as its runtime did not get v2.
	all := append(append(claims, systemd...), others...)
	if isDeeper(systemd, claims) {
		all = append(systemd, all...)
	}
	seen := map[string]bool{}
	claims = nil
	for _, c := range all {
		if !seen[c.id] && len(claims) < maxClaims {
			seen[c.id] = true
			claims = append(claims, c)
		}
	}
	return claims
}

// isDeeper reports whether one hierarchy claims a container in the innermost that another claims.
func isDeeper(one, another []claim) bool {
	return len(another) > 0 && slices.ContainsFunc(one[min(1, len(one)):], func(c claim) bool { return c.id == another[0].id && c.path == another[0].path })
}

// claimsOf returns what a path claims, the innermost first.
func claimsOf(path string, in hierarchy) (claims []claim) {
	names := strings.Split(strings.TrimPrefix(path, "/"), "/")
	pods := make([]string, len(names)) // the pod that each is in
	for i, name := range names {
		if i > 0 {
			pods[i] = pods[i-1]
		}
		if uid := podUID(name); uid != "" {
			pods[i] = uid
		}
	}
	for i := len(names) - 1; i >= 0 && len(claims) < maxClaims; i-- {
		before, after := "", names[i+1:]
		if i > 0 {
			before = names[i-1]
		}
		c, ok := claimOf(before, names[i], after)
		if !ok && i == 1 && len(names) == 2 {
			c, ok = inNamespace(names[0], names[1])
		}
		if !ok {
			continue
		}
		c.path, c.line, c.pod = "/"+strings.Join(names[:i+1], "/"), in, pods[i]
		claims = append(claims, c)
	}
	return claims
}

// inNamespace tells what a cgroup /NAMESPACE/ID claims, each any word: containerd without Kubernetes.
func inNamespace(namespace, id string) (c claim, ok bool) {
	if strings.ContainsAny(namespace+id, ".@:") {
		return claim{}, false
	}
	c, ok = named(Containerd, id)
	c.weak = true
	return c, ok
}

// claimOf tells what the name of a cgroup claims. before is the name of the one around it, after
// are those in it.
func claimOf(before, name string, after []string) (c claim, ok bool) {
	unit := strings.TrimSuffix(name, ".scope")
	if at := strings.LastIndexByte(unit, ':'); at >= 0 { // runc with a path of systemd under cgroupfs: slice:prefix:id
		unit = strings.ReplaceAll(unit[strings.LastIndexByte(unit[:at], ':')+1:], ":", "-")
	}
	if id := unit[max(0, len(unit)-64):]; isID(id) {
		if podmansPod(before, name, after) != "" {
			return claim{}, false
		}
		return byID(before, unit[:len(unit)-64], id)
	}
	switch {
	// The monitor of a container (lxc.monitor.NAME) and its supervisor are outside of it.
	case strings.HasPrefix(name, "lxc.payload."):
		return named(LXC, strings.TrimPrefix(name, "lxc.payload."))
	case before == "lxc" || before == "lxc.payload":
		return named(LXC, name)
	case strings.HasPrefix(name, "machine-") && unit != name && !within(after, "supervisor"):
		c, ok = named(Nspawn, unescapeUnit(strings.TrimPrefix(unit, "machine-")))
		c.weak = true // or a virtual machine
		return c, ok
	case strings.HasPrefix(name, "systemd-nspawn@") && strings.HasSuffix(name, ".service") && within(after, "payload"):
		return named(Nspawn, unescapeUnit(strings.TrimSuffix(strings.TrimPrefix(name, "systemd-nspawn@"), ".service")))
	}
	return claim{}, false
}

// byID tells what a name with an id of 64 hexadecimal digits claims, by what is before the id.
func byID(before, prefix, id string) (c claim, ok bool) {
	c.id = id
	switch prefix {
	case "docker-":
		c.runtime = Docker
	case "cri-containerd-", "nerdctl-", "containerd-":
		c.runtime = Containerd
	case "crio-":
		c.runtime = CRIO
	case "libpod-", "libpod-payload-":
		c.runtime = Podman
	case "":
		if before == Docker {
			c.runtime = Docker
		}
	default: // crio-conmon-, libpod-conmon-: the monitor, which is outside; or a word that says nothing
		return claim{}, false
	}
	return c, true
}

func named(runtime, name string) (claim, bool) {
	if name == "" || len(name) > maxNameLen || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return claim{}, false
	}
	return claim{id: name, runtime: runtime}, true
}

func within(names []string, name string) bool { return len(names) > 0 && names[0] == name }

// isID reports whether the text is an id of 64 lower-case hexadecimal digits.
func isID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// podUID returns the UID of the pod in the name of a cgroup that the kubelet made: "pod" and the UID,
// or with the driver of systemd kubepods-…-pod and the UID with "_" for "-".
func podUID(name string) string {
	uid, isSlice := strings.CutSuffix(name, ".slice")
	if isSlice {
		if !strings.HasPrefix(uid, "kubepods") && !strings.HasPrefix(uid, "kubelet-kubepods") {
			return ""
		}
		uid = strings.ReplaceAll(uid[strings.LastIndex(uid, "-")+1:], "_", "-")
	}
	uid, ok := strings.CutPrefix(uid, "pod")
	if !ok || uid == "" || len(uid) > maxPodUID || strings.Trim(uid, "0123456789abcdef-") != "" {
		return ""
	}
	return uid
}

// podmansPod returns the id of the pod whose cgroup has the name, if podman made it: before is the name of the one around it, after are
// those in it. These alone prove nothing: the kubelet names the cgroup of a container by its id alone, and its root may be able to
// make cgroups in it.
func podmansPod(before, name string, after []string) string {
	id, isPod := name, before == "libpod_parent"
	if i := strings.LastIndex(name, "libpod_pod_"); i >= 0 { // …-libpod_pod_ID.slice with systemd
		id, isPod = strings.TrimSuffix(name[i+len("libpod_pod_"):], ".slice"), true
	}
	if !isPod || !isID(id) || len(after) == 0 || !strings.HasPrefix(after[0], "libpod-") {
		return ""
	}
	return id
}

// unescapeUnit undoes systemd's escaping of names of units (man 1 systemd-escape).
func unescapeUnit(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if n, ok := hexEscape(s[i:]); ok {
			b.WriteByte(n)
			i += len(`\x2d`) - 1
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func hexEscape(s string) (byte, bool) {
	if len(s) < 4 || s[0] != '\\' || s[1] != 'x' {
		return 0, false
	}
	const digits = "0123456789abcdef"
	high, low := strings.IndexByte(digits, s[2]), strings.IndexByte(digits, s[3])
	return byte(high<<4 | low), high >= 0 && low >= 0
}
