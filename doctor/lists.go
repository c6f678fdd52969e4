package doctor

import (
	"context"
	"strings"

	"culprit/internal/config"
	"culprit/internal/text"
	"culprit/lists"
)

// listFiles checks whether the lists of the rules can be read, and who else can change them. What is in them culprit
// check says: reading a million names takes longer than a check may.
func listFiles(_ context.Context, c *config.Config) Check {
	const remedy = "culprit check names every mistake"
	rules := 0
	for _, r := range c.Rules {
		if r.IsList() {
			rules++
		}
	}
	if rules == 0 {
		return ok("no rule has a list")
	}
	if err := lists.Check(c); err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return fail(first, remedy)
	}
	if all := lists.Warnings(c); len(all) > 0 {
		return warn(all[0], "chown root the file and chmod go-w it; "+remedy)
	}
	return ok("%s with lists, all of which can be read", text.Plural(rules, "rule"))
}
