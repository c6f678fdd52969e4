package proc

import (
	"os"
	"strconv"
)

// Ended reports whether the first thread has ended, or is ending: it executes nothing more of its
// program. For a moment it has no memory, while its state still says that it runs (do_exit in
// kernel/exit.c). Other threads may live on.
func (s Stat) Ended() bool { return s.State == 'Z' || s.State == 'X' || s.Flags&pfExiting != 0 }

// Lead returns the thread by which a process can be looked at and traced: the first one, or another if that has
// ended, as /proc then shows neither its program nor its files, and nobody can attach to it. It returns
// the first one also if all have ended.
func (fs FS) Lead(pid int) (tid int) {
	if st, err := fs.Stat(pid); err != nil || !st.Ended() || st.Threads <= 1 {
		return pid
	}
	d, err := os.Open(fs.path(pid, "task"))
	if err != nil {
		return pid
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(64)
		for _, name := range names {
			tid, _ := strconv.Atoi(name)
			if st, err := fs.Stat(tid); err == nil && !st.Ended() {
				return tid
			}
		}
		if err != nil {
			return pid
		}
	}
}
