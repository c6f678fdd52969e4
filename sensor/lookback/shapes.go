package lookback

import "strings"

// shape says how the arguments of a call are written, a letter for each; see writer.argument.
func shape(name string) string {
	switch name {
	case "execve":
		return "slx"
	case "execveat":
		return "Dslxx"
	case "openat":
		return "DsOM"
	case "open":
		return "sOM"
	case "openat2":
		return "Dsxn"
	case "creat", "chmod":
		return "sm"
	case "chdir", "unlink":
		return "s"
	case "unlinkat":
		return "DsR"
	case "rename":
		return "ss"
	case "renameat":
		return "DsDs"
	case "renameat2":
		return "DsDsx"
	case "fchmod":
		return "dm"
	case "fchmodat":
		return "Dsm"
	case "fchmodat2":
		return "Dsmx"
	case "memfd_create":
		return "sC"
	case "mmap":
		return "xnrpdo"
	case "exit", "exit_group", "fchdir", "setuid", "setgid", "setfsuid", "setfsgid":
		return "d"
	case "setreuid", "setregid":
		return "dd"
	case "setresuid", "setresgid":
		return "ddd"
	case "ptrace":
		return "tdxx"
	case "prctl":
		return "Ns"
	case "clone":
		return "c"
	case "clone3":
		return "xn"
	case "socket":
		return "ATP"
	case "connect", "bind":
		return "iad"
	case "sendto":
		return "fbnFad"
	case "recvfrom":
		return "fbnFxx"
	case "write", "read":
		return "fbn"
	case "writev":
		return "fvn"
	case "sendmsg", "recvmsg":
		return "fhF"
	case "sendmmsg":
		return "fHnF"
	case "sendfile":
		return "fdxn"
	}
	return ""
}

// argument writes one argument.
func (w *writer) argument(letter rune, i int, v uint64) {
	switch letter {
	case 'd':
		w.add("%d", int32(v))
	case 'n':
		w.add("%d", v)
	case 'x':
		w.pointer(v)
	case 'o':
		w.number(v)
	case 'm', 'M':
		w.add("%#03o", v&0xffff)
	case 'D':
		w.directory(int32(v))
	case 'f':
		w.descriptor(int32(v), true)
	case 'i':
		w.descriptor(int32(v), false)
	case 's':
		w.str(v)
	case 'l':
		w.list(v)
	case 'b':
		w.data(w.take(partData), v, w.Args[i+1])
	case 'a':
		w.address(w.take(partAddress), v)
	case 'v':
		w.vectors(w.Args[i+1])
	case 'h':
		w.message()
	case 'H':
		w.messages(w.Args[i+1])
	default:
		w.named(letter, v)
	}
}

// shape32 is the shape of a 32-bit call: what its arguments point to was not recorded.
func shape32(name string) string {
	if name == "socketcall" {
		return "dx"
	}
	return strings.Map(func(letter rune) rune {
		if strings.ContainsRune("slbavhH", letter) {
			return 'x'
		}
		return letter
	}, shape(strings.TrimSuffix(name, "32")))
}
