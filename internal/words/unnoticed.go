package words

import (
	"fmt"

	"culprit/internal/event"
	"culprit/internal/text"
)

// Unnoticed says what a capture did not see, or saw late, one thing a line. It is empty if we
// know of nothing.
func Unnoticed(c *event.CaptureDetail) (all []string) {
	tell := func(n int, format, one string) {
		if n > 0 {
			all = append(all, fmt.Sprintf(format, text.Plural(n, one)))
		}
	}
	tell(c.Unseen, "%s ended before anybody could look", "process")
	tell(c.Unlisted, "%s counted but not listed: the capture had too many", "process")
	tell(c.Overruns, "process events were lost %s; /proc was scanned anew each time", "time")
	tell(c.GateFailures, "the gate failed %s; programs that started then were found a little later", "time")
	tell(c.Unheld, "%s started when the gate could not hold them; they were found a little later", "program")
	return all
}
