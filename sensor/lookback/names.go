package lookback

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// A name is a constant of the kernel's interface. Tables of them have strace's order.
type name struct {
	value uint64
	text  string
}

// named writes an argument that is made of constants.
func (w *writer) named(letter rune, v uint64) {
	v = uint64(uint32(v))
	switch letter {
	case 'O':
		access := oneOf([]name{{unix.O_RDONLY, "O_RDONLY"}, {unix.O_WRONLY, "O_WRONLY"}, {unix.O_RDWR, "O_RDWR"}}, v&unix.O_ACCMODE)
		w.add("%s", access)
		if rest := v &^ unix.O_ACCMODE; rest != 0 {
			w.add("|%s", several(openFlags(), rest, ""))
		}
	case 'R':
		w.add("%s", several([]name{{unix.AT_REMOVEDIR, "AT_REMOVEDIR"}}, v, "0"))
	case 'C':
		w.add("%s", several([]name{{unix.MFD_CLOEXEC, "MFD_CLOEXEC"}, {unix.MFD_ALLOW_SEALING, "MFD_ALLOW_SEALING"}, {unix.MFD_HUGETLB, "MFD_HUGETLB"}}, v, "0"))
	case 'r':
		w.add("%s", several([]name{{unix.PROT_READ, "PROT_READ"}, {unix.PROT_WRITE, "PROT_WRITE"}, {unix.PROT_EXEC, "PROT_EXEC"}}, v, "PROT_NONE"))
	case 'p':
		kind := oneOf([]name{{unix.MAP_SHARED, "MAP_SHARED"}, {unix.MAP_PRIVATE, "MAP_PRIVATE"}, {unix.MAP_SHARED_VALIDATE, "MAP_SHARED_VALIDATE"}}, v&3)
		w.add("%s", kind)
		if rest := v &^ 3; rest != 0 {
			w.add("|%s", several([]name{{unix.MAP_FIXED, "MAP_FIXED"}, {unix.MAP_ANONYMOUS, "MAP_ANONYMOUS"}, {unix.MAP_DENYWRITE, "MAP_DENYWRITE"}, {unix.MAP_POPULATE, "MAP_POPULATE"}}, rest, ""))
		}
	case 'A':
		w.add("%s", oneOf(families(), v))
	case 'T':
		w.add("%s", oneOf([]name{
			{unix.SOCK_STREAM, "SOCK_STREAM"},
			{unix.SOCK_DGRAM, "SOCK_DGRAM"},
			{unix.SOCK_RAW, "SOCK_RAW"},
			{unix.SOCK_SEQPACKET, "SOCK_SEQPACKET"},
			{unix.SOCK_PACKET, "SOCK_PACKET"},
		}, v&0xf))
		if rest := v &^ 0xf; rest != 0 {
			w.add("|%s", several([]name{{unix.SOCK_CLOEXEC, "SOCK_CLOEXEC"}, {unix.SOCK_NONBLOCK, "SOCK_NONBLOCK"}}, rest, ""))
		}
	case 'P':
		w.protocol(v)
	case 'F':
		w.add("%s", several(messageFlags(), v, "0"))
	case 'N':
		w.add("PR_SET_NAME")
	case 't':
		w.add("%s", oneOf([]name{
			{unix.PTRACE_TRACEME, "PTRACE_TRACEME"},
			{unix.PTRACE_PEEKTEXT, "PTRACE_PEEKTEXT"},
			{unix.PTRACE_PEEKDATA, "PTRACE_PEEKDATA"},
			{unix.PTRACE_POKETEXT, "PTRACE_POKETEXT"},
			{unix.PTRACE_POKEDATA, "PTRACE_POKEDATA"},
			{unix.PTRACE_CONT, "PTRACE_CONT"},
			{unix.PTRACE_ATTACH, "PTRACE_ATTACH"},
			{unix.PTRACE_DETACH, "PTRACE_DETACH"},
			{unix.PTRACE_SEIZE, "PTRACE_SEIZE"},
		}, v))
	case 'c':
		w.clone(w.Args[0])
	}
}

// clone writes the arguments of clone, whose order depends on the architecture.
func (w *writer) clone(flags uint64) {
	w.add("child_stack=")
	w.pointer(w.Args[1])
	w.add(", flags=")
	if rest := flags &^ 0xff; rest != 0 {
		w.add("%s", several([]name{
			{unix.CLONE_VM, "CLONE_VM"},
			{unix.CLONE_FS, "CLONE_FS"},
			{unix.CLONE_FILES, "CLONE_FILES"},
			{unix.CLONE_SIGHAND, "CLONE_SIGHAND"},
			{unix.CLONE_PIDFD, "CLONE_PIDFD"},
			{unix.CLONE_VFORK, "CLONE_VFORK"},
			{unix.CLONE_PARENT, "CLONE_PARENT"},
			{unix.CLONE_THREAD, "CLONE_THREAD"},
			{unix.CLONE_SYSVSEM, "CLONE_SYSVSEM"},
			{unix.CLONE_SETTLS, "CLONE_SETTLS"},
			{unix.CLONE_PARENT_SETTID, "CLONE_PARENT_SETTID"},
			{unix.CLONE_CHILD_CLEARTID, "CLONE_CHILD_CLEARTID"},
			{unix.CLONE_CHILD_SETTID, "CLONE_CHILD_SETTID"},
			{unix.CLONE_NEWNS, "CLONE_NEWNS"},
			{unix.CLONE_NEWUSER, "CLONE_NEWUSER"},
			{unix.CLONE_NEWPID, "CLONE_NEWPID"},
			{unix.CLONE_NEWNET, "CLONE_NEWNET"},
		}, rest, ""))
	}
	if n := flags & 0xff; n != 0 {
		if rest := flags &^ 0xff; rest != 0 {
			w.add("|")
		}
		w.add("%s", signal(n))
	}
}

func signal(n uint64) string {
	if text := unix.SignalName(unix.Signal(n)); text != "" {
		return text
	}
	return fmt.Sprint(n)
}

// protocol writes the third argument of socket, which depends on the first.
func (w *writer) protocol(v uint64) {
	switch w.Args[0] {
	case unix.AF_INET, unix.AF_INET6:
		w.add("%s", oneOf([]name{
			{unix.IPPROTO_IP, "IPPROTO_IP"},
			{unix.IPPROTO_ICMP, "IPPROTO_ICMP"},
			{unix.IPPROTO_TCP, "IPPROTO_TCP"},
			{unix.IPPROTO_UDP, "IPPROTO_UDP"},
			{unix.IPPROTO_ICMPV6, "IPPROTO_ICMPV6"},
			{unix.IPPROTO_RAW, "IPPROTO_RAW"},
		}, v))
	case unix.AF_NETLINK:
		w.add("%s", oneOf([]name{
			{unix.NETLINK_ROUTE, "NETLINK_ROUTE"},
			{unix.NETLINK_AUDIT, "NETLINK_AUDIT"},
			{unix.NETLINK_SOCK_DIAG, "NETLINK_SOCK_DIAG"},
			{unix.NETLINK_KOBJECT_UEVENT, "NETLINK_KOBJECT_UEVENT"},
		}, v))
	default:
		w.add("%d", v)
	}
}

// oneOf returns the text of a value.
func oneOf(names []name, v uint64) string {
	for _, n := range names {
		if n.value == v {
			return n.text
		}
	}
	return fmt.Sprintf("%#x", v)
}

// several returns the texts of bits. none stands for no bit.
func several(names []name, v uint64, none string) string {
	if v == 0 {
		return none
	}
	var texts []string
	for _, n := range names {
		if n.value != 0 && v&n.value == n.value { // 0: this architecture has none
			texts = append(texts, n.text)
			v &^= n.value
		}
	}
	if v != 0 {
		texts = append(texts, fmt.Sprintf("%#x", v))
	}
	return strings.Join(texts, "|")
}

func families() []name {
	return []name{
		{unix.AF_UNSPEC, "AF_UNSPEC"},
		{unix.AF_UNIX, "AF_UNIX"},
		{unix.AF_INET, "AF_INET"},
		{unix.AF_INET6, "AF_INET6"},
		{unix.AF_NETLINK, "AF_NETLINK"},
		{unix.AF_PACKET, "AF_PACKET"},
		{unix.AF_VSOCK, "AF_VSOCK"},
		{unix.AF_ALG, "AF_ALG"},
		{unix.AF_XDP, "AF_XDP"},
	}
}

func openFlags() []name {
	return []name{
		{unix.O_CREAT, "O_CREAT"},
		{unix.O_EXCL, "O_EXCL"},
		{unix.O_NOCTTY, "O_NOCTTY"},
		{unix.O_TRUNC, "O_TRUNC"},
		{unix.O_APPEND, "O_APPEND"},
		{unix.O_NONBLOCK, "O_NONBLOCK"},
		{unix.O_SYNC, "O_SYNC"},
		{unix.O_DSYNC, "O_DSYNC"},
		{unix.O_DIRECT, "O_DIRECT"},
		{unix.O_LARGEFILE, "O_LARGEFILE"},
		{unix.O_NOFOLLOW, "O_NOFOLLOW"},
		{unix.O_NOATIME, "O_NOATIME"},
		{unix.O_CLOEXEC, "O_CLOEXEC"},
		{unix.O_PATH, "O_PATH"},
		{unix.O_TMPFILE, "O_TMPFILE"},
		{unix.O_DIRECTORY, "O_DIRECTORY"},
	}
}

func messageFlags() []name {
	return []name{
		{unix.MSG_OOB, "MSG_OOB"},
		{unix.MSG_PEEK, "MSG_PEEK"},
		{unix.MSG_DONTROUTE, "MSG_DONTROUTE"},
		{unix.MSG_CTRUNC, "MSG_CTRUNC"},
		{unix.MSG_TRUNC, "MSG_TRUNC"},
		{unix.MSG_DONTWAIT, "MSG_DONTWAIT"},
		{unix.MSG_EOR, "MSG_EOR"},
		{unix.MSG_WAITALL, "MSG_WAITALL"},
		{unix.MSG_CONFIRM, "MSG_CONFIRM"},
		{unix.MSG_ERRQUEUE, "MSG_ERRQUEUE"},
		{unix.MSG_NOSIGNAL, "MSG_NOSIGNAL"},
		{unix.MSG_MORE, "MSG_MORE"},
		{unix.MSG_WAITFORONE, "MSG_WAITFORONE"},
		{unix.MSG_ZEROCOPY, "MSG_ZEROCOPY"},
		{unix.MSG_FASTOPEN, "MSG_FASTOPEN"},
		{unix.MSG_CMSG_CLOEXEC, "MSG_CMSG_CLOEXEC"},
	}
}
