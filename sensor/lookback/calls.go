//go:generate ../../scripts/compat-calls.sh

package lookback

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// A form says what the program reads of a call beside its number, its arguments and its result.
type form int

const (
	none form = iota // that of a 32-bit call
	plain
	pathFirst    // a path in the first argument
	pathSecond   // … in the second
	pathBoth     // in the first and the second
	pathsAt      // in the second and the fourth
	start        // execve(path, …), which failed; see startProgram
	startAt      // execveat(dir, path, …)
	exit         // never returns; see endProgram
	fork         // the child returns, too
	address      // of a socket: connect(fd, address, length)
	sendTo       // sendto(fd, bytes, length, flags, address, length)
	write        // write(fd, bytes, length), to a socket
	writeVector  // writev(fd, vector, count), to a socket
	sendMessage  // sendmsg(fd, message, flags)
	sendMessages // sendmmsg(fd, messages, count, flags)
	socketOnly   // sendfile(fd, …), to a socket
	read         // read(fd, buffer, length), a datagram
	readMessage  // recvmsg(fd, message, flags), a datagram
	mapping      // mmap(…) of a file's code
	naming       // prctl(PR_SET_NAME, name)
)

// A call is a system call that is recorded.
type call struct {
	name string
	form form
}

// calls returns the calls that explain what a program does, by number.
func calls() map[uint32]call {
	all := map[uint32]call{
		unix.SYS_EXECVE: {"execve", start}, unix.SYS_EXECVEAT: {"execveat", startAt},
		unix.SYS_EXIT: {"exit", exit}, unix.SYS_EXIT_GROUP: {"exit_group", exit},
		unix.SYS_CLONE: {"clone", fork}, unix.SYS_CLONE3: {"clone3", fork},

		unix.SYS_OPENAT: {"openat", pathSecond}, unix.SYS_OPENAT2: {"openat2", pathSecond},
		unix.SYS_CHDIR: {"chdir", pathFirst}, unix.SYS_FCHDIR: {"fchdir", plain},
		unix.SYS_UNLINKAT: {"unlinkat", pathSecond}, unix.SYS_RENAMEAT2: {"renameat2", pathsAt}, unix.SYS_RENAMEAT: {"renameat", pathsAt},
		unix.SYS_FCHMOD: {"fchmod", plain}, unix.SYS_FCHMODAT: {"fchmodat", pathSecond}, unix.SYS_FCHMODAT2: {"fchmodat2", pathSecond},
		unix.SYS_MEMFD_CREATE: {"memfd_create", pathFirst}, unix.SYS_MMAP: {"mmap", mapping},

		unix.SYS_SETUID: {"setuid", plain}, unix.SYS_SETREUID: {"setreuid", plain}, unix.SYS_SETRESUID: {"setresuid", plain}, unix.SYS_SETFSUID: {"setfsuid", plain},
		unix.SYS_SETGID: {"setgid", plain}, unix.SYS_SETREGID: {"setregid", plain}, unix.SYS_SETRESGID: {"setresgid", plain}, unix.SYS_SETFSGID: {"setfsgid", plain},
		unix.SYS_PTRACE: {"ptrace", plain}, unix.SYS_PRCTL: {"prctl", naming},

		unix.SYS_SOCKET: {"socket", plain}, unix.SYS_CONNECT: {"connect", address}, unix.SYS_BIND: {"bind", address},
		unix.SYS_SENDTO: {"sendto", sendTo}, unix.SYS_SENDMSG: {"sendmsg", sendMessage}, unix.SYS_SENDMMSG: {"sendmmsg", sendMessages},
		unix.SYS_WRITE: {"write", write}, unix.SYS_WRITEV: {"writev", writeVector}, unix.SYS_SENDFILE: {"sendfile", socketOnly},
		unix.SYS_READ: {"read", read}, unix.SYS_RECVFROM: {"recvfrom", read}, unix.SYS_RECVMSG: {"recvmsg", readMessage},
	}
	maps.Copy(all, olderCalls())
	return all
}

// numbers returns the numbers of the calls that one of the forms fits, in order; without a form,
// all of them.
func numbers(all map[uint32]call, forms ...form) (n []uint32) {
	for number, c := range all {
		if len(forms) == 0 || slices.Contains(forms, c.form) {
			n = append(n, number)
		}
	}
	slices.Sort(n)
	return n
}

// compatNumbers returns the numbers of compatCalls, in order.
func compatNumbers() []uint32 { return slices.Sorted(maps.Keys(compatCalls())) }
