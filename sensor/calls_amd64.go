package sensor

// compatCalls are the numbers for 32-bit programs (arch/x86/entry/syscalls/syscall_32.tbl).
func compatCalls() map[uint32]string {
	return map[uint32]string{
		4: "write", 146: "writev", 379: "pwritev2", 102: "socketcall", 369: "sendto", 370: "sendmsg", 345: "sendmmsg",
		187: "sendfile", 239: "sendfile64", 313: "splice", 366: "setsockopt", 426: "io_uring_enter", 248: "io_submit",
	}
}

// compatUIDCalls change UIDs: setuid, setreuid and setresuid, with 16 and with 32 bits.
func compatUIDCalls() []int32 {
	return []int32{23 | startCompat, 70 | startCompat, 164 | startCompat, 213 | startCompat, 203 | startCompat, 208 | startCompat}
}

// otherForkCalls are fork and vfork, and for 32-bit programs fork, vfork, clone and clone3.
func otherForkCalls() []int32 {
	return []int32{57, 58, 2 | startCompat, 190 | startCompat, 120 | startCompat, 435 | startCompat}
}
