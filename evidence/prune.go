package evidence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"culprit/evidence/catalogue"
	"culprit/evidence/directory"
	"culprit/evidence/retention"
)

// Prune sweeps the evidence in dir once. It refuses while a daemon runs with it, as that sweeps
// itself, every minute, and is the only writer of the catalogue. With dryRun it only says what it
// would do, also beside a daemon.
func Prune(ctx context.Context, dir string, b retention.Bounds, dryRun bool, log *slog.Logger) (retention.Report, error) {
	if dryRun {
		return retention.Preview(dir, b)
	}
	var none retention.Report
	r, err := catalogue.OpenReader(dir) // fails where there is no evidence, which Open would make
	if err != nil {
		return none, err
	}
	r.Close()
	if pid, err := directory.Holder(dir); err != nil {
		return none, err
	} else if pid != 0 {
		return none, fmt.Errorf("culprit (PID %d) is running with %s and removes what is over the limits within minutes: use --dry-run, or stop it first", pid, dir)
	}
	s, err := Open(dir, log)
	if err != nil {
		return none, err
	}
	report, err := s.Sweeper(b, nil).Sweep(ctx)
	return report, errors.Join(err, s.Close())
}
