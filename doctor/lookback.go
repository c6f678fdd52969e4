package doctor

import (
	"context"
	"fmt"

	"culprit/daemon"
	"culprit/internal/config"
	"culprit/internal/text"
	"culprit/sensor/lookback"
)

// lookBack opens the look-back as the daemon does, for a moment. If it is off it is tried all the
// same, with nobody to record.
func lookBack(_ context.Context, c *config.Config) Check {
	off := len(c.Lookback.Users) == 0
	if !isRoot() {
		return cannotTell()
	}
	wanted := daemon.LookbackConfig(c)
	if off {
		const nobody = 1<<32 - 2
		wanted.Users = []uint32{nobody}
	}
	r, err := lookback.Open(wanted)
	if err == nil {
		err = r.Close()
	}
	switch {
	case off && err != nil:
		return ok("off (lookback.users), and it would not work here: %v", err)
	case off:
		return ok("off (lookback.users is empty); it would work here")
	case err != nil:
		return fail(err.Error(), waysRemedy([]tried{{err: fmt.Errorf("%w", err)}})+"; lookback.users: [] does without")
	}
	return ok("the last system calls of %v are kept in %s of memory", c.Lookback.Users, text.Size(int64(c.Lookback.Memory)))
}
