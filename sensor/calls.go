package sensor

import "golang.org/x/sys/unix"

// Only these system calls send packets. Others take in what comes, and then the kernel may send
// what somebody else left to be sent.
//
// setsockopt sends what a socket corks (UDP_CORK, TCP_CORK, TCP_NODELAY).
func sendingCalls() map[uint32]string {
	calls := map[uint32]string{
		unix.SYS_SENDTO: "sendto", unix.SYS_SENDMSG: "sendmsg", unix.SYS_SENDMMSG: "sendmmsg",
		unix.SYS_WRITE: "write", unix.SYS_WRITEV: "writev", unix.SYS_PWRITEV2: "pwritev2",
		unix.SYS_SENDFILE: "sendfile", unix.SYS_SPLICE: "splice", unix.SYS_TEE: "tee", unix.SYS_SETSOCKOPT: "setsockopt",
		unix.SYS_IO_URING_ENTER: "io_uring_enter", unix.SYS_IO_SUBMIT: "io_submit",
	}
	for n, name := range compatCalls() {
		calls[n|compatBit] = name
	}
	return calls
}

// compatBit marks the number of a call of the 32-bit interface in our map.
const compatBit = 1 << 31

// x32Bit marks a call of x32 (__X32_SYSCALL_BIT).
const x32Bit = 1 << 30

// callKey is the number of a call in sendingCalls.
func callKey(number uint64, status uint32) uint32 {
	n := uint32(number) &^ x32Bit
	if status&compatStatus != 0 {
		n |= compatBit
	}
	return n
}
