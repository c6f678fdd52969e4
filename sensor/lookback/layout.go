package lookback

import (
	"fmt"
	"math"

	"github.com/cilium/ebpf/btf"

	"culprit/internal/kernel"
)

// layout says where the running kernel keeps what the programs read: offsets in bytes.
type layout struct {
	taskTID, taskTGID, taskLeader, taskStart, taskParent, taskCred, taskFiles, taskMM, taskExit uint32

	credUID uint32
	compat  int // task_struct.thread_info.status; -1: the machine has none

	mmArgs, mmArgsEnd, mmEnv uint32
	binName, binInterp       uint32

	filesTable, tableMost, tableFiles uint32
	fileInode, fileData               uint32
	inodeMode, inodeNumber            uint32
	socketSock                        uint32

	sockFamily, sockLocal4, sockRemote4, sockLocalPort, sockRemotePort uint32
	sockLocal6, sockRemote6                                            uint32
	sockType, sockProtocol                                             uint32

	number uint32    // struct pt_regs of a thread in a system call: its number
	args   [6]uint32 // … and arguments, which its result does not overwrite
	args32 [6]uint32 // … and those of a 32-bit call, if compat is not -1

	casts
}

// casts says which struct is at an address, so that a program can read there without a helper
// (bpf_rdonly_cast in kernel/bpf/helpers.c, Linux 6.2): the type ids of the function, 0 if there is none,
// and of structs.
type casts struct {
	cast                            uint32
	slot, file, inode, socket, sock uint32 // a slot is any struct that begins with a pointer
}

func readLayout() (*layout, error) {
	spec, err := kernel.Types()
	if err != nil {
		return nil, err
	}
	l := new(layout)
	members := map[*uint32][]string{
		&l.taskTID:        {"task_struct", "pid"},
		&l.taskTGID:       {"task_struct", "tgid"},
		&l.taskLeader:     {"task_struct", "group_leader"},
		&l.taskStart:      {"task_struct", "start_boottime"},
		&l.taskParent:     {"task_struct", "real_parent"},
		&l.taskCred:       {"task_struct", "cred"},
		&l.taskFiles:      {"task_struct", "files"},
		&l.taskMM:         {"task_struct", "mm"},
		&l.taskExit:       {"task_struct", "exit_code"},
		&l.credUID:        {"cred", "uid"},
		&l.mmArgs:         {"mm_struct", "arg_start"},
		&l.mmArgsEnd:      {"mm_struct", "arg_end"},
		&l.mmEnv:          {"mm_struct", "env_start"},
		&l.binName:        {"linux_binprm", "filename"},
		&l.binInterp:      {"linux_binprm", "interp"},
		&l.filesTable:     {"files_struct", "fdt"},
		&l.tableMost:      {"fdtable", "max_fds"},
		&l.tableFiles:     {"fdtable", "fd"},
		&l.fileInode:      {"file", "f_inode"},
		&l.fileData:       {"file", "private_data"},
		&l.inodeMode:      {"inode", "i_mode"},
		&l.inodeNumber:    {"inode", "i_ino"},
		&l.socketSock:     {"socket", "sk"},
		&l.sockFamily:     {"sock", "__sk_common", "skc_family"},
		&l.sockLocal4:     {"sock", "__sk_common", "skc_rcv_saddr"},
		&l.sockRemote4:    {"sock", "__sk_common", "skc_daddr"},
		&l.sockLocalPort:  {"sock", "__sk_common", "skc_num"},
		&l.sockRemotePort: {"sock", "__sk_common", "skc_dport"},
		&l.sockLocal6:     {"sock", "__sk_common", "skc_v6_rcv_saddr"},
		&l.sockRemote6:    {"sock", "__sk_common", "skc_v6_daddr"},
		&l.sockType:       {"sock", "sk_type"},
		&l.sockProtocol:   {"sock", "sk_protocol"},
	}
	if err := kernel.Offsets(spec, members); err != nil {
		return nil, err
	}
	l.compat = kernel.OptionalOffset(spec, "task_struct", "thread_info", "status")
	for i, x86 := range []string{"di", "si", "dx", "r10", "r8", "r9"} {
		if l.args[i], err = kernel.Offset(spec, "pt_regs", x86); err != nil { // arm64: regs[8]
			l.args[i], err = kernel.Offset(spec, "pt_regs", "regs")
			l.args[i] += uint32(8 * i)
		}
		if err != nil {
			return nil, err
		}
	}
	for i, x86 := range []string{"bx", "cx", "dx", "si", "di", "bp"} {
		if l.compat < 0 {
			break
		}
		if l.args32[i], err = kernel.Offset(spec, "pt_regs", x86); err != nil {
			return nil, err
		}
	}
	if first := kernel.OptionalOffset(spec, "pt_regs", "orig_x0"); first >= 0 {
		l.args[0] = uint32(first)
	}
	if l.number, err = kernel.FirstOffset(spec, []string{"pt_regs", "orig_ax"}, []string{"pt_regs", "syscallno"}); err != nil {
		return nil, err
	}
	for to, path := range members {
		if *to > math.MaxInt16 {
			return nil, fmt.Errorf("%v is %d bytes from the begin of its struct: more than an instruction can have", path, *to)
		}
	}
	l.casts = findCasts(spec)
	return l, nil
}

func findCasts(spec *btf.Spec) (c casts) {
	var cast *btf.Func
	if spec.TypeByName("bpf_rdonly_cast", &cast) != nil {
		return c
	}
	types := map[*uint32]btf.Type{&c.cast: cast}
	for to, name := range map[*uint32]string{&c.slot: "hlist_head", &c.file: "file", &c.inode: "inode", &c.socket: "socket", &c.sock: "sock"} {
		var s *btf.Struct
		if spec.TypeByName(name, &s) != nil {
			return casts{}
		}
		types[to] = s
	}
	for to, t := range types {
		id, err := spec.TypeID(t)
		if err != nil {
			return casts{}
		}
		*to = uint32(id)
	}
	return c
}
