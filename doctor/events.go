package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/journal"

	"culprit/internal/config"
)

// eventsOut checks whether events can be sent to the configured destination.
func eventsOut(_ context.Context, c *config.Config) Check {
	e := c.Events
	switch {
	case e.File != "":
		return eventsFile(e.File)
	case e.Journald && !journal.Enabled():
		return fail("there is no journald here", "set events.file instead of events.journald")
	case e.Journald:
		return ok("sent to journald")
	case len(e.Command) > 0:
		if _, err := exec.LookPath(e.Command[0]); err != nil {
			return fail(err.Error(), "set events.command to a program that root can execute")
		}
		return ok("sent to the standard input of %s", e.Command[0])
	}
	return ok("not sent out (events in the configuration)")
}

func eventsFile(path string) Check {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		// The daemon creates it, and its directory.
		if info, err = os.Stat(filepath.Dir(filepath.Dir(path))); err == nil && info.IsDir() {
			return ok("sent to %s", path)
		}
		return fail(fmt.Sprintf("the directory of %s cannot be created: there is no %s", path, filepath.Dir(filepath.Dir(path))), "make it, or set events.file to another")
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return cannotTell()
	case err != nil:
		return fail(err.Error(), "set events.file to another file")
	case !info.Mode().IsRegular():
		return fail(path+" is not an ordinary file", "set events.file to another file")
	case info.Mode().Perm()&0o022 != 0:
		return fail(path+" can be written to by others", "chmod go-w "+path)
	}
	return ok("sent to %s", path)
}
