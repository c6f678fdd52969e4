package gate

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Exempt lists the files that an execve of path opens: the program itself, the interpreter of a
// script, the dynamic loader. The gate must never be asked about them, so that the daemon can
// start straces without waiting for it. While Go's fork waits for its child's execve the daemon
// may be unable to do anything else, such as killing a gate that hangs.
func Exempt(path string) ([]string, error) {
	var files []string
	for range 5 { // the kernel allows as many nested interpreters
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, fmt.Errorf("find what starting a program opens: %w", err)
		}
		files = append(files, real)
		if path, err = interpreter(real); err != nil {
			return nil, fmt.Errorf("find what starting %s opens: %w", real, err)
		}
		if path == "" {
			break
		}
	}
	return files, nil
}

// interpreter returns the program that runs the file: for a script the one after #!, for an ELF
// file its dynamic loader, "" if it is linked statically.
func interpreter(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	line, _ := bufio.NewReaderSize(f, 256).ReadString('\n')
	if script, ok := strings.CutPrefix(line, "#!"); ok {
		words := strings.Fields(script)
		if len(words) == 0 {
			return "", nil
		}
		return words[0], nil
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return "", err
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			return strings.TrimRight(string(name), "\x00"), err
		}
	}
	return "", nil
}

// exempt makes fanotify ignore the files, whatever is marked.
func exempt(fanotify int, files []string) error {
	const flags = unix.FAN_MARK_ADD | unix.FAN_MARK_IGNORED_MASK | unix.FAN_MARK_IGNORED_SURV_MODIFY
	for _, file := range files {
		if err := unix.FanotifyMark(fanotify, flags, unix.FAN_OPEN_EXEC_PERM, unix.AT_FDCWD, file); err != nil {
			return fmt.Errorf("exempt %s from the gate: %w", file, err)
		}
	}
	return nil
}
