package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"culprit/internal/config"
	"culprit/internal/nfloggroup"
)

// logGroup checks whether our NFLOG group is free.
func logGroup(_ context.Context, c *config.Config) Check {
	group := c.NFLog.Group
	r, err := nfloggroup.Find(group)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return cannotTell()
	case err != nil:
		return warn("cannot tell: "+err.Error(), "none known: please report this")
	case r == nil:
		return ok("group %d is free", group)
	case r.Name == "culprit":
		return ok("group %d is read by culprit itself, PID %d", group, r.PID)
	}
	stop := "stop it (systemctl status " + strconv.Itoa(r.PID) + " says what started it)"
	if r.PID == 0 {
		stop = "its owner may be in a container, see lsns -t pid; stop it"
	}
	return fail(fmt.Sprintf("group %d is read by %s", group, r), stop+"; or give culprit another number: nflog.group in its configuration")
}
