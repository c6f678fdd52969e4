package lookback

import "golang.org/x/sys/unix"

// olderCalls are calls that newer architectures do without.
func olderCalls() map[uint32]call {
	return map[uint32]call{
		unix.SYS_FORK: {"fork", fork}, unix.SYS_VFORK: {"vfork", fork},
		unix.SYS_OPEN: {"open", pathFirst}, unix.SYS_CREAT: {"creat", pathFirst},
		unix.SYS_UNLINK: {"unlink", pathFirst}, unix.SYS_RENAME: {"rename", pathBoth}, unix.SYS_CHMOD: {"chmod", pathFirst},
	}
}
