package doctor

import (
	"errors"
	"strings"
	"testing"

	"culprit/internal/config"
)

func TestJudgeNamespaces(t *testing.T) {
	t.Parallel()
	no := errors.New("there is no hook")
	for _, tt := range []struct {
		namespaces string
		freezes    bool
		err        error
		status     Status
		says       string
	}{
		{"host", true, nil, OK, "namespaces: all would work here"},
		{"host", false, no, OK, "could not be seen here: there is no hook"},
		{"all", true, nil, OK, "the host's and all"},
		{"all", false, nil, Warn, "named, but cannot be stopped"},
		{"all", false, no, Fail, "cannot be seen: there is no hook"},
	} {
		c := config.Default()
		c.Namespaces = []string{tt.namespaces}
		got := judgeNamespaces(&c, c.OtherNamespaces() == nil, tt.freezes, tt.err)
		if got.Status != tt.status || !strings.Contains(got.Found, tt.says) || (got.Status != OK) != (got.Remedy != "") {
			t.Errorf("%s, %v: %+v", tt.namespaces, tt.err, got)
		}
	}
}
