package rules

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The empty table that using nft's raw would leave goes only if we made it and nobody else uses
// it by then.
func TestTableOfNFT(t *testing.T) {
	t.Parallel()
	const install = "INSTALL"
	for _, tt := range []struct{ name, steps string }{
		{"an empty table of theirs", `iptables -t raw -N X
iptables -t raw -X X
INSTALL`},
		{"an OUTPUT chain of theirs", `iptables -t raw -A OUTPUT -j ACCEPT
iptables -t raw -F
INSTALL`},
		{"their chain comes later", `INSTALL
iptables -t raw -N X`},
		{"their rule in OUTPUT comes later", `INSTALL
iptables -t raw -A OUTPUT -j ACCEPT
ip6tables -t raw -I OUTPUT -j ACCEPT`},
		{"their policy comes later", `INSTALL
iptables -t raw -P OUTPUT DROP`},
		{"their set comes later", `INSTALL
nft add table ip raw
nft "add set ip raw s { type ipv4_addr; }"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// The firewall must end as the steps alone leave it.
			after := func(steps string) string {
				e := newEnv(t, BackendNFT)
				f := e.open(t, parse(t, twoRules), nil)
				for step := range strings.SplitSeq(steps, "\n") {
					if step == install {
						e.installs(t, f)
					} else if step != "" {
						e.Must(t, "sh", "-c", step)
					}
				}
				e.ok(t, f.Remove)
				return e.saved(t)
			}
			want := after(strings.ReplaceAll(tt.steps, install, ""))
			got := after(tt.steps)
			// The base chains that iptables-nft made for *their* rule are theirs.
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// If somebody else changes something between looking and deleting, the table stays.
func TestTableIsDeletedOnlyAsSeen(t *testing.T) {
	t.Parallel()
	e := newEnv(t, BackendNFT)
	e.Must(t, "iptables", "-t", "raw", "-N", "A")
	var seen nftTable
	e.ok(t, func() (err error) { seen, err = readNFT("ipv4", "raw"); return err })
	if !seen.exists || !seen.holdsOnly("A") || seen.holdsOnly("B") {
		t.Errorf("saw %+v", seen)
	}
	e.Must(t, "iptables", "-t", "raw", "-N", "B")
	if err := e.do(seen.delete); !errors.Is(err, unix.ERESTART) {
		t.Errorf("delete of a table that changed: %v, want ERESTART", err)
	}
	e.Must(t, "iptables", "-t", "raw", "-S", "B")
	e.ok(t, func() (err error) { seen, err = readNFT("ipv4", "raw"); return err })
	e.Must(t, "iptables", "-t", "raw", "-A", "B")
	e.ok(t, func() (err error) { seen, err = readNFT("ipv4", "raw"); return err })
	if err := e.do(func() error { return seen.deleteChain("B") }); !errors.Is(err, unix.EBUSY) {
		t.Errorf("delete of a chain with a rule: %v, want EBUSY", err)
	}
	e.ok(t, seen.delete)
	if got := e.saved(t); got != "" {
		t.Errorf("left: %s", got)
	}
}
