package proc

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ExecArgs returns the arguments of the execve that a thread of the process is in, from its
// memory: the command line of the program that it will become. It fails if no thread is in an
// execve, and for 32-bit programs on a 64-bit kernel.
func (fs FS) ExecArgs(pid int) ([]string, error) {
	argv, err := fs.execArgv(pid)
	if err != nil {
		return nil, err
	}
	mem, err := os.Open(fs.path(pid, "mem"))
	if err != nil {
		return nil, readError(pid, "mem", err)
	}
	defer mem.Close()
	var args []string
	total := 0
	for i := range int64(1024) {
		var pointer [8]byte
		if _, err := mem.ReadAt(pointer[:], argv+8*i); err != nil {
			return args, readError(pid, "mem", err)
		}
		at := int64(binary.NativeEndian.Uint64(pointer[:]))
		if at == 0 {
			break
		}
		arg := readString(mem, at, maxRead-total)
		args = append(args, arg)
		if total += len(arg) + 1; total >= maxRead {
			break
		}
	}
	return args, nil
}

// WaitsInExecve reports whether the first thread of a process waits for something within an execve, such as the disk: then it
// may be half its new program, without arguments. It is false while that runs.
func (fs FS) WaitsInExecve(pid int) bool {
	text, err := fs.read(pid, "syscall")
	if err != nil {
		return false
	}
	_, is := parseExecve(string(text))
	return is
}

// readString reads a zero-terminated string of at most most bytes. It reads page by page,
// because the page after the string may not be mapped.
func readString(mem *os.File, at int64, most int) string {
	const page = 4096
	var s []byte
	buf := make([]byte, page)
	for len(s) < most {
		n, err := mem.ReadAt(buf[:page-at%page], at)
		if end := strings.IndexByte(string(buf[:n]), 0); end >= 0 {
			s = append(s, buf[:end]...)
			break
		}
		s = append(s, buf[:n]...)
		at += int64(n)
		if err != nil {
			break
		}
	}
	return string(s[:min(len(s), most)])
}

// execArgv finds a thread in execve or execveat, and returns the address of its argument
// vector, from /proc/PID/task/TID/syscall (man 5 proc).
func (fs FS) execArgv(pid int) (int64, error) {
	tasks, err := os.ReadDir(fs.path(pid, "task"))
	if err != nil {
		return 0, readError(pid, "task", err)
	}
	for _, task := range tasks {
		// It may still be on its way into the execve, "running".
		for range 20 {
			text, err := os.ReadFile(fs.path(pid, "task/"+task.Name()+"/syscall"))
			if err != nil {
				break
			}
			if argv, ok := parseExecve(string(text)); ok {
				return argv, nil
			}
			if !strings.HasPrefix(string(text), "running") {
				break
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
	return 0, fmt.Errorf("read the arguments of process %d: it is not in execve", pid)
}

// parseExecve reads "59 0xFILE 0xARGV 0xENV …" for execve; for execveat the directory comes
// before the file.
func parseExecve(text string) (argv int64, ok bool) {
	f := strings.Fields(text)
	if len(f) < 7 {
		return 0, false
	}
	number, err := strconv.Atoi(f[0])
	if err != nil {
		return 0, false
	}
	at := map[int]int{unix.SYS_EXECVE: 2, unix.SYS_EXECVEAT: 3}[number]
	if at == 0 {
		return 0, false
	}
	argv, err = strconv.ParseInt(strings.TrimPrefix(f[at], "0x"), 16, 64)
	return argv, err == nil && argv > 0
}
