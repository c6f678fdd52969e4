package harness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// SmallDisk mounts a file system of that many bytes on the host and returns where.
func (h *Host) SmallDisk(bytes int) (dir string) {
	h.T.Helper()
	dir = filepath.Join(h.Dir, "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		h.T.Fatal(err)
	}
	var err error
	h.Do(func() { err = unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=700,size=%d", bytes)) })
	if err != nil {
		h.T.Fatal(err)
	}
	return dir
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// Fill takes everything that is free of a disk of the host, to the last byte, with a file.
func (h *Host) Fill(path string) {
	h.T.Helper()
	h.Do(func() {
		f, err := os.Create(path)
		if err != nil {
			h.T.Error(err)
			return
		}
		defer f.Close()
		if _, err := io.Copy(f, zeros{}); !errors.Is(err, unix.ENOSPC) {
			h.T.Errorf("the disk is not full: %v", err)
		}
	})
}
