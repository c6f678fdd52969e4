// Package scripts tests the scripts of this directory.
package scripts

import (
	"os/exec"
	"strings"
	"testing"

	"culprit/internal/testkit"
)

// inside runs in a mount namespace: a program of the tests is missing there, and "apt-get" shows what
// policy there is for services while it installs it. $1 is the policy before, $2 the status of apt-get.
const inside = `
mount --make-rprivate /
dir=$(mktemp -d)
trap 'umount -l "$dir"; rmdir "$dir"' EXIT
mount -t tmpfs tmpfs "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/bin"
mount -t overlay -o "lowerdir=/usr/sbin,upperdir=$dir/upper,workdir=$dir/work" overlay /usr/sbin
rm -f /usr/sbin/policy-rc.d
[ -z "$1" ] || printf '%s\n' "$1" >/usr/sbin/policy-rc.d
program=$(command -v minisign)
: >"$dir/nothing"
mount --bind "$dir/nothing" "$program"
cat >"$dir/bin/apt-get" <<END
#!/bin/sh
[ "\$1" = install ] || exit 0
echo "while: \$(tail -n 1 /usr/sbin/policy-rc.d)"
umount "$program"
exit $2
END
chmod 755 "$dir/bin/apt-get"
PATH=$dir/bin:$PATH ./deps.sh test >"$dir/out" 2>&1 || echo "status: $?"
grep -E '^(while|note):' "$dir/out" || cat "$dir/out"
if [ -e /usr/sbin/policy-rc.d ]; then echo "after: $(tail -n 1 /usr/sbin/policy-rc.d)"; fi
`

// No service of a package starts because we install it, and what keeps it from that is gone
// afterwards; but a policy that was there stays.
func TestServicesStayOff(t *testing.T) {
	t.Parallel()
	testkit.Root(t)
	for _, program := range []string{"dpkg", "minisign"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("packages are not Debian's here, or not installed: %v", err)
		}
	}
	const left = "#!/bin/sh\n# made by scripts/deps.sh of culprit for the time of an installation: it can be removed\nexit 101"
	for _, tt := range []struct{ name, before, status, want string }{
		{"no policy", "", "0", "while: exit 101\n"},
		{"no policy, and apt-get fails", "", "100", "status: 1\nwhile: exit 101\n"},
		{"a policy of theirs", "#!/bin/sh\nexit 0", "0", "note: /usr/sbin/policy-rc.d is there already and says whether services start\nwhile: exit 0\nafter: exit 0\n"},
		{"ours, of a run that was killed", left, "0", "while: exit 101\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command("unshare", "--mount", "sh", "-euc", inside, "sh", tt.before, tt.status).CombinedOutput()
			if got := strings.TrimLeft(string(out), "\n"); err != nil || got != tt.want {
				t.Errorf("%v\n%s, want\n%s", err, got, tt.want)
			}
		})
	}
}
