package sensor

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The ring for packets of other network namespaces is shared, and a flood out of one container must not hide what
// others send. So each has a bucket of tokens. While the ring is half empty every packet is reported; then only those of who
// has tokens left. What that costs is counted in the bucket, so that it can be said of whom.
//
// Who may make cgroups could have as many buckets as he likes. So user space says which cgroups count as one with all that are in them,
// see [OtherPackets.CountAsOne]. Of such, one bucket counts, however many cgroups there are inside.

// A From is what tells senders of packets apart: the cgroup that the socket was made in, or one around it that counts as one. If that is
// the root of cgroup v2, as on machines that have their containers in cgroup v1, it is the network namespace, or who has power over it:
// all namespaces that a user made for himself count as one.
type From struct {
	Cgroup uint64 // id; 0: the root
	Netns  uint32 // inode; 0: the others tell
	Owner  uint32 // of the network namespace; 0: root, and Netns tells
}

// A bucket is what the program knows of one.
const (
	bucketFull = 0 // u64: CLOCK_MONOTONIC, in nanoseconds: when all of its tokens will be there again
	bucketLost = 8 // u64: how many packets found no room
	bucketSize = 16
	fromSize   = 16

	maxBuckets = 4096
	maxOnes    = 4096

	// cgroupLevels is how many of the cgroups around a socket's are looked at, from the root on.
	cgroupLevels = 8

	tokenEvery = 1_000_000   // nanoseconds: a thousand packets per second
	bucketHas  = 100_000_000 // nanoseconds: a hundred packets at once
)

// fromOf returns what a packet counts for, as the program does.
func fromOf(cgroup uint64, netns, owner uint32) From {
	switch {
	case cgroup > rootCgroupID:
		return From{Cgroup: cgroup}
	case owner != 0:
		return From{Owner: owner}
	}
	return From{Netns: netns}
}

const rootCgroupID = 1 // kernfs counts from its root

// Places on the stack, where a header was.
const (
	onStackFrom16 = onStackHead      // the key of the bucket
	onStackBucket = onStackHead + 16 // its value
)

// share goes on if there is room for the packet, and ends if there is none for its sender. R8 is then the sender's bucket,
// or 0.
func (a *egressProgram) share() {
	root, known, charge, spent, shared := a.Fresh("root"), a.Fresh("known"), a.Fresh("charge"), a.Fresh("spent"), a.Fresh("shared")
	a.Zero(asm.RFP, onStackFrom16, fromSize+bucketSize)
	a.Add(
		asm.Mov.Reg(asm.R1, asm.R6), asm.FnSkbCgroupId.Call(),
		asm.JLE.Imm(asm.R0, rootCgroupID, root),
		asm.StoreMem(asm.RFP, onStackFrom16, asm.R0, asm.DWord),
	)
	for level := range int32(cgroupLevels) {
		inside := a.Fresh("inside")
		const onStackLevel = onStackBucket // for now
		a.Add(
			asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, 1+level), asm.FnSkbAncestorCgroupId.Call(),
			asm.JEq.Imm(asm.R0, 0, known), // it is not as deep
			asm.StoreMem(asm.RFP, onStackLevel, asm.R0, asm.DWord),
			asm.LoadMapPtr(asm.R1, a.ones.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onStackLevel),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, inside),
			asm.LoadMem(asm.R1, asm.RFP, onStackLevel, asm.DWord), asm.StoreMem(asm.RFP, onStackFrom16, asm.R1, asm.DWord),
			asm.Ja.Label(known),
		)
		a.Label(inside)
	}
	a.Add(asm.Ja.Label(known))
	a.Label(root)
	a.Follow(asm.R9, asm.R6, a.skbSock)
	a.Follow(asm.R9, asm.R9, a.sockNet)
	a.Follow(asm.R9, asm.R9, a.netUsers)
	a.Probe(asm.RFP, onStackFrom16+12, 4, asm.R9, a.usersOwner)
	a.Add(
		asm.LoadMem(asm.R1, asm.RFP, onStackFrom16+12, asm.Word), asm.JNE.Imm(asm.R1, 0, known),
		asm.LoadMem(asm.R1, asm.RFP, onStackNetns, asm.DWord), asm.StoreMem(asm.RFP, onStackFrom16+8, asm.R1, asm.Word),
	)
	a.Label(known)
	a.Add(
		asm.FnKtimeGetNs.Call(), asm.Mov.Reg(asm.R9, asm.R0),
		asm.LoadMapPtr(asm.R1, a.buckets.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onStackFrom16),
		asm.FnMapLookupElem.Call(),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.JNE.Imm(asm.R0, 0, charge),
		// The first packet of a sender.
		asm.Mov.Reg(asm.R1, asm.R9), asm.Add.Imm(asm.R1, tokenEvery), asm.StoreMem(asm.RFP, onStackBucket+bucketFull, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, a.buckets.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, onStackFrom16),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, onStackBucket),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
		asm.Mov.Imm(asm.R8, 0),
		asm.Ja.Label(shared),
	)
	a.Label(charge)
	late := a.Fresh("late")
	a.Add( // two processors may take the same token: then there is one more
		asm.LoadMem(asm.R1, asm.R8, bucketFull, asm.DWord),
		asm.JGE.Reg(asm.R1, asm.R9, late), asm.Mov.Reg(asm.R1, asm.R9),
	)
	a.Label(late)
	a.Add(
		asm.Mov.Reg(asm.R2, asm.R1), asm.Sub.Reg(asm.R2, asm.R9),
		asm.JGT.Imm(asm.R2, bucketHas, spent),
		asm.Add.Imm(asm.R1, tokenEvery), asm.StoreMem(asm.R8, bucketFull, asm.R1, asm.DWord),
		asm.Ja.Label(shared),
	)
	a.Label(spent)
	const waiting = 0 // BPF_RB_AVAIL_DATA
	a.Add(
		asm.LoadMapPtr(asm.R1, a.packets.FD()), asm.Mov.Imm(asm.R2, waiting), asm.FnRingbufQuery.Call(),
		asm.JLE.Imm(asm.R0, packetsSize/2, shared),
	)
	a.loses()
	a.Count(a.lost)
	a.Add(asm.Ja.Label("end"))
	a.Label(shared)
}

// loses counts a packet in the sender's bucket, if R8 has one.
func (a *egressProgram) loses() {
	none := a.Fresh("no bucket")
	a.Add(
		asm.JEq.Imm(asm.R8, 0, none),
		asm.Add.Imm(asm.R8, bucketLost), asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R8, asm.R1, asm.DWord),
	)
	a.Label(none)
}

// A Lost says how many packets found no room.
type Lost struct {
	From  From // zero: of whom is not known any more
	Count uint64
}

// losses read what the program counts.
type losses struct {
	told uint64 // in all
	by   map[From]uint64
}

// since returns the losses since the last call, given how many there are in all.
func (l *losses) since(buckets *ebpf.Map, all uint64) (lost []Lost) {
	rest := all - l.told
	if rest == 0 {
		return nil
	}
	l.told = all
	by := map[From]uint64{}
	var from From
	var value [bucketSize / 8]uint64
	entries := buckets.Iterate()
	for entries.Next(&from, &value) {
		before, now := l.by[from], value[bucketLost/8]
		if before > now { // the bucket was forgotten meanwhile
			before = 0
		}
		// A packet may be in its bucket and not in the sum yet: then it is told the next time.
		n := min(now-before, rest)
		if by[from] = before + n; n > 0 {
			rest -= n
			lost = append(lost, Lost{from, n})
		}
	}
	// If buckets came and went meanwhile, not all were seen: what they lost is in the rest.
	l.by = by
	if rest > 0 {
		lost = append(lost, Lost{Count: rest})
	}
	return lost
}
