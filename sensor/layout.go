package sensor

import (
	"errors"

	"github.com/cilium/ebpf/btf"

	"culprit/internal/kernel"
)

// layout says where the running kernel keeps what the programs read: offsets in bytes, by its
// own type information (BTF).
type layout struct {
	taskFlags, taskLeader, taskStart, taskPtrace, taskCred uint32
	taskTGID                                               uint32
	credUID, credEUID                                      uint32
	compat                                                 int    // task_struct.thread_info.status; -1: the machine has none
	call, arg3, arg4                                       uint32 // pt_regs of a system call: its number, its arguments
	preempt                                                preemptCount
	softirqs                                               int // task_struct.softirq_disable_cnt, where PREEMPT_RT counts them; -1: not there

	taskParent, taskComm, taskStack, taskPending, taskSignal uint32
	signalPending, signalTTY, signalPIDs, signalThreads      uint32

	taskMM, mmStack, mmCode uint32

	sockCookie, sockQueueLast uint32 // sock.__sk_common.skc_cookie, sock.sk_receive_queue.prev
	skbData, skbHead, skbTail uint32
	skbNetwork, skbMark       uint32
	skbSock                   uint32

	skbDevice, deviceNet, netInode uint32 // sk_buff.dev, net_device.nd_net.net, net.ns.inum

	taskPID, taskCgroups, cgroupsV2, cgroupNode, nodeID uint32

	netUsers, usersOwner uint32 // net.user_ns, user_namespace.owner

	sockNet, sockUID, sockPort, sockAddr, sockAddr6 uint32 // of struct sock

	// Of connection tracking; -1: the kernel has none. sk_buff._nfct, nf_conn.tuplehash[].tuple, from that of the original direction to that
	// of replies, nf_conntrack_tuple.dst, and the port in there.
	skbTracked, connTuples, connReply, tupleDst, dstPort int
}

// preemptCount says where the kernel counts in which context a processor is (preempt_count in
// include/linux/preempt.h): in task_struct, or in a variable of each processor. The address of
// that is found from the one such variable that a task points to, its run queue, since
// kernels without CONFIG_KALLSYMS_ALL give programs no addresses of variables.
type preemptCount struct {
	perCPU       bool
	offset       uint32 // in task_struct, or from the run queue
	taskQueue    uint32 // task_struct.se.cfs_rq
	queueOfQueue uint32 // cfs_rq.rq
}

// readLayout reads the BTF of the running kernel.
func readLayout() (*layout, error) {
	spec, err := kernel.Types()
	if err != nil {
		return nil, err
	}
	l := new(layout)
	err = kernel.Offsets(spec, map[*uint32][]string{
		&l.taskFlags:     {"task_struct", "flags"},
		&l.taskLeader:    {"task_struct", "group_leader"},
		&l.taskStart:     {"task_struct", "start_boottime"},
		&l.taskPtrace:    {"task_struct", "ptrace"},
		&l.taskCred:      {"task_struct", "cred"},
		&l.taskTGID:      {"task_struct", "tgid"},
		&l.credUID:       {"cred", "uid"},
		&l.credEUID:      {"cred", "euid"},
		&l.taskParent:    {"task_struct", "real_parent"},
		&l.taskComm:      {"task_struct", "comm"},
		&l.taskStack:     {"task_struct", "stack"},
		&l.taskMM:        {"task_struct", "mm"},
		&l.mmStack:       {"mm_struct", "start_stack"},
		&l.mmCode:        {"mm_struct", "end_code"},
		&l.taskPending:   {"task_struct", "pending", "signal"},
		&l.taskSignal:    {"task_struct", "signal"},
		&l.signalPending: {"signal_struct", "shared_pending", "signal"},
		&l.signalTTY:     {"signal_struct", "tty"},
		&l.signalPIDs:    {"signal_struct", "pids"},
		&l.signalThreads: {"signal_struct", "nr_threads"},
		&l.sockCookie:    {"sock", "__sk_common", "skc_cookie"},
		&l.sockQueueLast: {"sock", "sk_receive_queue", "prev"},
		&l.skbData:       {"sk_buff", "data"},
		&l.skbHead:       {"sk_buff", "head"},
		&l.skbTail:       {"sk_buff", "tail"},
		&l.skbNetwork:    {"sk_buff", "network_header"},
		&l.skbMark:       {"sk_buff", "mark"},
		&l.skbSock:       {"sk_buff", "sk"},
		&l.skbDevice:     {"sk_buff", "dev"},
		&l.deviceNet:     {"net_device", "nd_net", "net"},
		&l.netInode:      {"net", "ns", "inum"},
		&l.netUsers:      {"net", "user_ns"},
		&l.usersOwner:    {"user_namespace", "owner"},
		&l.taskPID:       {"task_struct", "pid"},
		&l.taskCgroups:   {"task_struct", "cgroups"},
		&l.cgroupsV2:     {"css_set", "dfl_cgrp"},
		&l.cgroupNode:    {"cgroup", "kn"},
		&l.nodeID:        {"kernfs_node", "id"},
		&l.sockNet:       {"sock", "__sk_common", "skc_net", "net"},
		&l.sockUID:       {"sock", "sk_uid"},
		&l.sockPort:      {"sock", "__sk_common", "skc_dport"},
		&l.sockAddr:      {"sock", "__sk_common", "skc_daddr"},
		&l.sockAddr6:     {"sock", "__sk_common", "skc_v6_daddr"},
	})
	if err != nil {
		return nil, err
	}
	if l.call, err = kernel.FirstOffset(spec, []string{"pt_regs", "orig_ax"}, []string{"pt_regs", "syscallno"}); err != nil {
		return nil, err
	}
	if l.arg3, err = kernel.Offset(spec, "pt_regs", "dx"); err == nil { // x86
		l.arg4, err = kernel.Offset(spec, "pt_regs", "r10")
	} else if l.arg3, err = kernel.Offset(spec, "pt_regs", "regs"); err == nil { // arm64
		l.arg3, l.arg4 = l.arg3+2*8, l.arg3+3*8
	}
	if err != nil {
		return nil, err
	}
	l.compat = kernel.OptionalOffset(spec, "task_struct", "thread_info", "status")
	l.softirqs = kernel.OptionalOffset(spec, "task_struct", "softirq_disable_cnt")
	l.findTracking(spec)
	l.preempt, err = findPreemptCount(spec)
	return l, err
}

// findTracking looks where connection tracking keeps what it knows. It may be a module that is not loaded yet: its structs are in the
// kernel's own BTF all the same, as net/core/flow_dissector.c reads them.
func (l *layout) findTracking(spec *btf.Spec) {
	l.skbTracked, l.connTuples = kernel.OptionalOffset(spec, "sk_buff", "_nfct"), -1
	var hash *btf.Struct
	tuple := kernel.OptionalOffset(spec, "nf_conntrack_tuple_hash", "tuple")
	l.tupleDst, l.dstPort = kernel.OptionalOffset(spec, "nf_conntrack_tuple", "dst"), kernel.OptionalOffset(spec, "nf_conntrack_tuple", "dst", "u")
	if first := kernel.OptionalOffset(spec, "nf_conn", "tuplehash"); min(first, tuple, l.tupleDst, l.dstPort) >= 0 && spec.TypeByName("nf_conntrack_tuple_hash", &hash) == nil {
		l.connTuples, l.connReply, l.dstPort = first+tuple, int(hash.Size), l.dstPort-l.tupleDst
	}
}

// findPreemptCount looks where each architecture and version has it.
func findPreemptCount(spec *btf.Spec) (p preemptCount, err error) {
	perCPU := map[string]uint32{} // offsets of variables
	var section *btf.Datasec
	if spec.TypeByName(".data..percpu", &section) == nil {
		for _, v := range section.Vars {
			perCPU[v.Type.TypeName()] = v.Offset
		}
	}
	count, x86 := perCPU["__preempt_count"]
	if hot, is := perCPU["pcpu_hot"]; is { // x86, Linux 6.2 to 6.14
		in, err := kernel.Offset(spec, "pcpu_hot", "preempt_count")
		if err != nil {
			return p, err
		}
		count, x86 = hot+in, true
	}
	if !x86 {
		p.offset, err = kernel.FirstOffset(spec, []string{"task_struct", "thread_info", "preempt_count"}, []string{"task_struct", "thread_info", "preempt", "count"})
		return p, err
	}
	queue, found := perCPU["runqueues"]
	if !found {
		return p, errors.New("find the run queues in the kernel's BTF: there are none")
	}
	p.perCPU, p.offset = true, count-queue
	if p.taskQueue, err = kernel.Offset(spec, "task_struct", "se", "cfs_rq"); err != nil {
		return p, err
	}
	p.queueOfQueue, err = kernel.Offset(spec, "cfs_rq", "rq")
	return p, err
}
