package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"culprit/internal/config"
	"culprit/internal/text"
)

// lowSpace is how much free space makes us warn: room for some traces of the largest size.
const lowSpace = 1 << 30

func evidenceDir(_ context.Context, c *config.Config) Check {
	dir := c.Evidence.Dir
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return newEvidenceDir(dir, c.Evidence)
	case errors.Is(err, fs.ErrPermission):
		return cannotTell()
	case err != nil:
		return fail(err.Error(), "set evidence.dir to another directory")
	case info.Mode()&fs.ModeSymlink != 0:
		return fail(dir+" is a symbolic link", "set evidence.dir to what it points to")
	case !info.IsDir():
		return fail(dir+" is not a directory", "move it away, or set evidence.dir to another directory")
	}
	if st, is := info.Sys().(*syscall.Stat_t); is && st.Uid != 0 {
		return fail(fmt.Sprintf("%s belongs to UID %d, which could change the evidence", dir, st.Uid), fmt.Sprintf("chown root: %s, if what is in it can be trusted; else move it away", dir))
	}
	mode := info.Mode().Perm()
	if mode&0o022 != 0 {
		return fail(fmt.Sprintf("%s has the mode %04o: others could put links in our way", dir, mode), "chmod 0700 "+dir)
	}
	if mode != 0o700 {
		return warn(fmt.Sprintf("%s has the mode %04o: traces hold passwords", dir, mode), "chmod 0700 "+dir)
	}
	return onDisk(dir, dir, c.Evidence)
}

// newEvidenceDir checks the parent of a directory that does not exist yet.
func newEvidenceDir(dir string, e config.Evidence) Check {
	above := dir
	for {
		above = filepath.Dir(above)
		info, err := os.Stat(above)
		if errors.Is(err, fs.ErrNotExist) && above != "/" {
			continue
		}
		if err != nil {
			return fail(fmt.Sprintf("cannot create %s: %v", dir, err), "set evidence.dir to another directory")
		}
		if !info.IsDir() {
			return fail(fmt.Sprintf("cannot create %s: %s is not a directory", dir, above), "set evidence.dir to another directory")
		}
		break
	}
	if !isRoot() {
		return warn(fmt.Sprintf("%s does not exist yet; cannot tell without root whether it can be created", dir), "run it as root: sudo culprit doctor")
	}
	if err := unix.Access(above, unix.W_OK); err != nil {
		return fail(fmt.Sprintf("cannot create %s: write to %s: %v", dir, above, err), "set evidence.dir to a directory on a file system that can be written to")
	}
	return onDisk(dir+" does not exist yet and can be created", above, e)
}

// onDisk checks the file system of path.
func onDisk(found, path string, e config.Evidence) Check {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return warn(found+"; cannot tell how much disk is free: "+err.Error(), "look yourself: df "+path)
	}
	free := int64(st.Bavail) * st.Bsize
	found = fmt.Sprintf("%s, %s free", found, text.Size(free))
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		return fail(found+", but the file system is read-only", "mount it for writing, or set evidence.dir to another directory")
	case free < int64(e.MinFree):
		return fail(fmt.Sprintf("%s, less than evidence.min_free (%s): nothing would be traced", found, text.Size(int64(e.MinFree))), "free some space, set evidence.dir to a larger file system, or lower evidence.min_free")
	case st.Type == unix.TMPFS_MAGIC:
		return warn(found+", in memory (tmpfs): a reboot deletes it", "set evidence.dir to a directory on a disk")
	case free < lowSpace:
		return warn(found, "free some space, or set evidence.dir to a larger file system")
	}
	return ok("%s", found)
}
