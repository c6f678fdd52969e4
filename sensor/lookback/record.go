package lookback

// A record is what the programs write about one call, into a segment of the ring. Its parts, which
// are the memory that the arguments point to, follow it.
const (
	recSize   = 0  // u32: in bytes, with its parts
	recCall   = 4  // u32: the number, and flags
	recTime   = 8  // u64: when it returned: CLOCK_MONOTONIC, in nanoseconds
	recTID    = 16 // u32
	recPID    = 20 // u32
	recStart  = 24 // u64: start of the process since boot, in nanoseconds
	recResult = 32 // s64; of a thread that ends, its status as of wait(2)
	recArgs   = 40 // [6]u64
	recUID    = 88 // u32: real
	recParts  = 96
)

// Flags of recCall.
const (
	callCompat = 1 << 31 // by the 32-bit interface
	callEnds   = 1 << 30 // in this call, whichever it is, the thread ended
	callStarts = 1 << 29 // a program has started
	callNumber = 1<<16 - 1
)

// What recArgs holds of a program that has started, beside nothing.
const (
	startsScript = 8 * 1 // it is 0 if the name is not that of a script
	startsEnv    = 8 * 2 // where the environment is
)

// A part begins with these, and its length is rounded up to 8 bytes.
const (
	partKind   = 0 // u32
	partLength = 4 // s32: in bytes; negative: an error, the memory was not there
	partWhole  = 8 // u64: how long it is in the program's memory, if known
	partBytes  = 16
)

// Kinds of parts.
const (
	partString  = 1 + iota // up to a NUL
	partData               // bytes of a buffer
	partAddress            // struct sockaddr
	partHeader             // struct msghdr
	partSocket             // what the descriptor is, see sock
	partParent             // the parent: PID, start since boot in nanoseconds
	partMore               // there is more that was not recorded
	partArgs               // the arguments of a program, each with its NUL
)

// What partSocket holds.
const (
	sockMode       = 0  // u32: inode.i_mode
	sockFamily     = 4  // u16
	sockType       = 6  // u16
	sockProtocol   = 8  // u16
	sockLocalPort  = 10 // u16: in the byte order of the machine
	sockRemotePort = 12 // u16: big endian
	sockInode      = 16 // u64
	sockLocal      = 24 // [16]byte
	sockRemote     = 40 // [16]byte
	sockSize       = 56
)

// Sizes of structs of the kernel's interface on 64-bit machines.
const (
	addressSize = 128 // struct sockaddr_storage
	headerSize  = 56  // struct msghdr
	vectorSize  = 16  // struct iovec
	messageSize = 64  // struct mmsghdr
)

// How many are recorded of what a call has many of.
const (
	maxVectors  = 4
	maxMessages = 3
	maxOfEach   = 2 // vectors of each message of sendmmsg
)

// stringEnd is how much more of a string is read than is kept: its NUL, and a byte that shows whether
// it goes on.
const stringEnd = 2

// argsSize returns how many bytes of a program's arguments are kept, together, if other strings are cut
// at that length.
func argsSize(strings int) int { return 4 * strings }

// largest returns the size of the largest record, in bytes, if strings are cut at that length.
func largest(strings int) int {
	const round = 7
	str := partBytes + strings + stringEnd + round
	message := partBytes + headerSize + partBytes + addressSize
	rest := recParts + partBytes + sockSize + 2*partBytes + addressSize + vectorSize
	return rest + max(str+partBytes+argsSize(strings)+round, message+maxVectors*str, maxMessages*(message+maxOfEach*str))
}
