package sensor

import (
	"encoding/binary"
	"errors"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The way "nflog": a program on the raw tracepoint sk_data_ready (Linux 6.3 and later) looks
// when the NFLOG target puts its message into our socket. That is still in the sender's context
// (nfulnl_log_packet in net/netfilter/nfnetlink_log.c hands each message over at once, as the
// threshold is 1), and the message has its sequence number: the packet that we read with this
// number is this one, whatever its bytes are. The firewall has nothing of ours but the NFLOG
// rules, so nobody's rules depend on us.
//
// The tracepoint fires for data that comes in on any socket. For others the program reads one
// word and ends.

// ruleKey is the size of a rule's name as a key, in bytes, filled up with zeros.
const ruleKey = 56

// Where an NFLOG message has its prefix, which is the name of the rule: after nlmsghdr,
// nfgenmsg and the attribute NFULA_PACKET_HDR comes NFULA_PREFIX (__build_packet_message).
const prefixAt = 16 + 4 + 8 + 4

// nflogProgram is told the cookie of the socket that reads our group (SO_COOKIE, man 7 socket), and
// whether the rules are of iptables-legacy.
func nflogProgram(l *layout, m *maps, freeze bool, cookie uint64, legacy bool) *ebpf.ProgramSpec {
	a := &assembler{layout: l, maps: m, disabled: 1} // by the lock of our NFLOG group
	if legacy {
		a.disabled++ // by ipt_do_table
	}
	a.Add(asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord)) // struct sock *
	a.Follow(asm.R9, asm.R6, l.sockCookie)
	a.Add(asm.LoadImm(asm.R1, int64(cookie), asm.DWord), asm.JNE.Reg(asm.R9, asm.R1, "end"))
	// The message is the last in the queue: the lock of our NFLOG group is still held.
	a.Follow(asm.R9, asm.R6, l.sockQueueLast)
	a.Follow(regBytes, asm.R9, l.skbData)
	a.Zero(asm.RFP, onStackRul, ruleKey)
	a.Add(
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, onStackRul),
		asm.Mov.Imm(asm.R2, ruleKey),
		asm.Mov.Reg(asm.R3, regBytes), asm.Add.Imm(asm.R3, prefixAt),
		asm.FnProbeReadKernelStr.Call(),
		asm.LoadMapPtr(asm.R1, m.rules.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onStackRul),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"), // somebody else logs to our group, or it is no packet
	)
	if freeze {
		a.unsure()
	}
	a.look()
	a.Add(asm.Mov.Imm(asm.R9, keySize))
	a.copyKey(asm.R9)
	if freeze {
		a.because(notDecided)
		a.Add(asm.LoadMem(asm.R1, asm.RFP, onStackUns, asm.DWord))
		a.unless(asm.JNE, asm.R1, 0)
		a.stop()
	}
	a.submit()
	return &ebpf.ProgramSpec{Name: "culprit_nflog", Type: ebpf.RawTracepoint, Instructions: a.End(0), License: "GPL"}
}

// unsure notes whether the message in R9, of the rule whose value R0 points to, is one of a rule with a filter that did not decide
// that it is meant (lists/nfilter): such a packet can be of anybody who asks anything. The filter has just run, for
// this message, with the same lock held.
func (a *assembler) unsure() {
	a.Add(
		asm.Mov.Imm(asm.R2, 0),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
		asm.JNE.Imm(asm.R1, ruleFiltered, "sure"),
		asm.LoadMapValue(asm.R1, a.maps.decided.FD(), 0),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.JEq.Reg(asm.R1, asm.R9, "sure"),
		asm.Mov.Imm(asm.R2, 1),
	)
	a.Label("sure")
	a.Add(asm.StoreMem(asm.RFP, onStackUns, asm.R2, asm.DWord))
}

// attributes of an NFLOG message (include/uapi/linux/netfilter/nfnetlink_log.h).
const nfulaSeq = 12

// sequence returns the sequence number of an NFLOG message.
func sequence(message []byte) (uint32, error) {
	const attributes, header = 16 + 4, 4
	for b := message[min(attributes, len(message)):]; len(b) >= header; {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < header {
			break
		}
		if kind == nfulaSeq && size == header+4 && len(b) >= size {
			return binary.BigEndian.Uint32(b[header:]), nil
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return 0, errors.New("an NFLOG message without a sequence number")
}
