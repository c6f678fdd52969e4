#!/bin/sh
# test.sh: install, run, upgrade, remove and purge the packages of bin/packages.
#
# Needs root, dpkg, iptables, strace, logrotate and overlayfs. It works on a copy of this machine
# that is thrown away: an overlay, with namespaces of its own for mounts and network.
# What changed on the copy is in the overlay's upper directory, so that nothing a
# package leaves behind can be missed.
set -eu

if [ "${1:-}" != inside ]; then
	if ! dpkg --status dpkg >/dev/null 2>&1; then
		echo "skipped: this machine's packages are not dpkg's"
		[ -z "${CI:-}" ] || { echo "FAIL: CI skips nothing: run it on Debian" >&2 && exit 1; }
		exit 0
	fi
	cd "$(dirname "$0")/.."
	exec unshare --mount --net "$0" inside
fi

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

deb=$(echo bin/packages/*.deb)
rpm=$(echo bin/packages/*.rpm)
[ -f "$deb" ] || fail "want one package in bin/packages, have $deb: make packages-test builds it"
work=$(mktemp -d)
daemon=
# The mounts go with the namespace, when its last process ends.
clean_up() {
	[ -z "$daemon" ] || kill -KILL "$daemon" 2>/dev/null || true
	umount -l "$work"
	rmdir "$work"
}
trap clean_up EXIT
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root" "$work/none"
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
root=$work/root
for dir in /proc /dev /sys; do
	mount --rbind "$dir" "$root$dir"
done
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
ip link set lo up
cp "$deb" "$root/tmp/culprit.deb"

in_root() { chroot "$root" "$@"; }
# What differs from the machine, but for what dpkg and its triggers keep.
changed() {
	(cd "$work/upper" && find . ! -type d -o -name culprit) |
		grep -vE '^\./(var/lib/(dpkg|rpm|systemd)|var/log|var/cache|root|etc/ld.so.cache|run|tmp)(/|$)' | sort
	(cd "$root/run" && find . ! -type d -o -name culprit | grep -vE '^./(systemctl|systemd|xtables.lock)') || true
}
is() { # is WHAT GOT WANTED
	[ "$2" = "$3" ] || fail "$1: got
$2
wanted
$3"
	echo "ok: $1"
}

# dpkg finds systemd running: its commands are only written down.
mkdir -p "$root/run/systemd/system"
printf '#!/bin/sh\necho "$*" >>/run/systemctl.log\n' >"$root/run/systemctl"
chmod 755 "$root/run/systemctl"
[ -e "$root/usr/bin/systemctl" ] || : >"$root/usr/bin/systemctl"
mount --bind "$root/run/systemctl" "$root/usr/bin/systemctl"
systemctl_did() {
	cat "$root/run/systemctl.log"
	rm -f "$root/run/systemctl.log"
}
rm -rf "$root/etc/culprit" "$root/var/lib/culprit" # of this machine
before=$(changed)

in_root dpkg --install /tmp/culprit.deb >"$work/out" 2>&1 || fail "install: $(cat "$work/out")"
grep -q 'systemctl enable --now culprit' "$work/out" || fail "the install does not say how to go on"
is "an install starts and enables nothing" "$(systemctl_did)" daemon-reload
for file in /usr/bin/culprit /usr/lib/systemd/system/culprit.service /etc/culprit/config.yaml \
	/usr/lib/systemd/system/culprit-serve.service /usr/lib/systemd/system/culprit-serve-fleet.service /usr/lib/systemd/system/culprit-lists.service /usr/lib/systemd/system/culprit-lists.timer \
	/usr/share/man/man1/culprit.1.gz /usr/share/man/man1/culprit-rules-remove.1.gz \
	/usr/share/bash-completion/completions/culprit /usr/share/zsh/vendor-completions/_culprit \
	/usr/share/fish/vendor_completions.d/culprit.fish /usr/share/doc/culprit/CHANGELOG.md \
	/usr/share/doc/culprit/config.md /usr/share/doc/culprit/troubleshooting.md /usr/share/doc/culprit/kubernetes/daemonset.yaml; do
	[ -s "$root$file" ] || grep -q 'path-exclude' /etc/dpkg/dpkg.cfg.d/* 2>/dev/null || fail "$file is not there"
done
in_root dpkg --verify culprit | grep -v /usr/share/ && fail "files are not as packed"
is "the configuration is root's" "$(stat -c '%a %U' "$root/etc/culprit/config.yaml" "$root/etc/culprit" "$root/etc/culprit/lists")" "600 root
700 root
700 root"
# shellcheck disable=SC2016 # dpkg-query expands it
in_root dpkg-query --show --showformat='${Maintainer}' culprit | grep -q '^..* <..*@..*>$' || fail "nobody stands for the package"
in_root culprit check >/dev/null
if command -v systemd-analyze >/dev/null; then
	in_root systemd-analyze verify --man=no /usr/lib/systemd/system/culprit.service \
		/usr/lib/systemd/system/culprit-serve.service /usr/lib/systemd/system/culprit-serve-fleet.service /usr/lib/systemd/system/culprit-lists.service /usr/lib/systemd/system/culprit-lists.timer 2>"$work/out" ||
		true # it fails for faults of other units, too
	# Those before 253 do not know Type=notify-reload, as the unit says.
	! grep culprit "$work/out" | grep -v 'ignoring: notify-reload' || fail "systemd does not like the unit"
	for unit in culprit:4.0 culprit-lists:3.0 culprit-serve:2.0 culprit-serve-fleet:2.0; do
		exposure=$(systemd-analyze security --offline=true "packaging/${unit%:*}.service" 2>/dev/null |
			sed -n 's/.*exposure level.*: \([0-9.]*\) .*/\1/p')
		awk "BEGIN {exit !($exposure < ${unit#*:})}" || fail "exposure of ${unit%:*} is $exposure"
		echo "ok: exposure $exposure of ${unit%:*} is below ${unit#*:}"
	done
else
	echo "skipped: no systemd-analyze here"
fi

# Run with the capabilities that the unit gives, as far as we have them ourselves.
bounding=-all,$(sed -n 's/^CapabilityBoundingSet=CAP_/+/p' packaging/culprit.service |
	sed 's/ CAP_/,+/g' | tr '[:upper:]' '[:lower:]')
run_daemon() {
	: >"$work/log" # what the last one said is not news
	# Not in_root: $! would be a shell around it.
	chroot "$root" setpriv --no-new-privs --inh-caps=-all --bounding-set "$bounding" culprit run >"$work/log" 2>&1 &
	daemon=$!
	tries=0
	until grep -q msg=ready "$work/log"; do
		kill -0 "$daemon" 2>/dev/null || fail "the daemon ended: $(cat "$work/log")"
		[ $((tries += 1)) -lt 300 ] || fail "the daemon is not ready: $(cat "$work/log")"
		sleep 0.1
	done
}
# The copy is in memory, which may have less than a GiB to spare.
sed -i 's/BADZONE/OURZONE/; s/min_free: 1GiB/min_free: 0B/' "$root/etc/culprit/config.yaml"
run_daemon
in_root culprit rules status >/dev/null || fail "the rules are not in place"
tries=0
until in_root culprit traces --json | grep -q '"from_start":true'; do
	[ $((tries += 1)) -lt 100 ] || fail "it traces nobody from the start: $(cat "$work/log")"
	# Once before the capture, then held by the gate. A UID that nobody else has.
	chroot "$root" setpriv --reuid $((70000000 + $$)) --regid 65534 --clear-groups \
		bash -c 'echo OURZONE >/dev/udp/127.0.0.1/53' || true
	sleep 0.1
done
# In a PID namespace, as in some containers, the sensor cannot work: then the log says why.
if ! grep -q 'no sensor.*PID namespace' "$work/log"; then
	in_root culprit traces --json | grep -q '"from_packet":true' || fail "the first packet's program was not stopped until strace was attached: $(cat "$work/log")"
fi
in_root culprit hits --json | grep -q '"grade":"proof"' || sleep 2 # the prover waits for the best line
in_root culprit hits --json | grep -q '"grade":"proof"' || fail "it proves nothing: $(cat "$work/log")"
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null || true
daemon=
is "a kill leaves rules" "$(in_root iptables-save | grep -c '^:CULPRIT')" 1
in_root setpriv --no-new-privs --inh-caps=-all --bounding-set "$bounding" culprit rules remove >/dev/null
is "what the unit runs then removes them" "$(in_root iptables-save | grep -c CULPRIT || true)" 0
run_daemon
kill -TERM "$daemon"
wait "$daemon" || fail "the daemon ended with $?: $(cat "$work/log")"
daemon=
echo "ok: it hunts with the capabilities of the unit"

# As operations.md says for shippers that are not root.
in_root install -d -m 2750 -g adm /var/log/culprit
in_root install -m 640 -g adm /dev/null /var/log/culprit/events.json
echo '{}' >"$root/var/log/culprit/events.json"
in_root logrotate --force --state /tmp/rotated /etc/logrotate.d/culprit || fail "logrotate does not like its configuration"
is "a rotation keeps who may read the events" "$(in_root stat -c '%a %U:%G %s' /var/log/culprit/events.json /var/log/culprit/events.json.1)" "640 root:adm 0
640 root:adm 3"

# The same package with another version and another configuration.
dpkg-deb --raw-extract "$deb" "$work/next"
sed -i 's/^Version: .*/&.1/' "$work/next/DEBIAN/control"
echo "# new" >>"$work/next/etc/culprit/config.yaml"
dpkg-deb --root-owner-group --build -Znone "$work/next" "$root/tmp/next.deb" >/dev/null
rm -r "$work/next"
in_root dpkg --force-confold --install /tmp/next.deb >"$work/out" 2>&1 || fail "upgrade: $(cat "$work/out")"
is "an upgrade restarts it only if it runs" "$(systemctl_did)" "daemon-reload
try-restart culprit.service culprit-serve.service culprit-serve-fleet.service"
grep -q OURZONE "$root/etc/culprit/config.yaml" || fail "the upgrade lost the configuration"
echo "ok: an upgrade keeps the configuration"

# A list of stopped programs that a gate left, and one of another culprit that lives.
mkdir -p "$root/run/culprit"
: >"$root/run/culprit/stopped-1"
mkdir -p "$root/run/culprit/bpf-1" "$root/run/culprit/eu-stack"
exec 8>"$root/run/culprit/stopped-2"
flock 8
in_root dpkg --remove culprit >"$work/out" 2>&1 || fail "remove: $(cat "$work/out")"
is "a removal stops it" "$(systemctl_did)" "disable --now culprit.service culprit-serve.service culprit-serve-fleet.service culprit-lists.timer
daemon-reload"
is "a removal leaves what another culprit has in /run" "$(ls "$root/run/culprit")" stopped-2
exec 8>&-
rm -r "$root/run/culprit"
is "a removal leaves configuration and evidence" "$(changed | grep -v /var/lib/culprit/)" "$(printf '%s\n' "$before" ./etc/culprit ./etc/culprit/config.yaml ./etc/culprit/config.yaml.dpkg-dist ./etc/logrotate.d/culprit ./var/lib/culprit | sed '/^$/d' | sort -u)"
is "a removal leaves the firewall alone" "$(in_root iptables-save | grep -c CULPRIT || true)" 0

in_root dpkg --purge culprit >"$work/out" 2>&1 || fail "purge: $(cat "$work/out")"
is "a purge leaves nothing" "$(changed)" "$before"

if [ -f "$rpm" ] && command -v rpm >/dev/null; then
	cp "$rpm" "$root/tmp/culprit.rpm"
	systemctl_did >/dev/null 2>&1 || true
	in_root rpm --install --nodeps /tmp/culprit.rpm >"$work/out" 2>&1 || fail "rpm: $(cat "$work/out")"
	is "rpm: an install starts and enables nothing" "$(systemctl_did)" daemon-reload
	in_root culprit check >/dev/null
	sed -i 's/BADZONE/OURZONE/' "$root/etc/culprit/config.yaml"
	in_root rpm --upgrade --replacepkgs --nodeps /tmp/culprit.rpm >"$work/out" 2>&1 || fail "rpm: $(cat "$work/out")"
	grep -q OURZONE "$root/etc/culprit/config.yaml" || fail "rpm: the upgrade lost the configuration"
	systemctl_did >/dev/null
	in_root rpm --erase culprit >"$work/out" 2>&1 || fail "rpm: $(cat "$work/out")"
	is "rpm: a removal stops it" "$(systemctl_did)" "disable --now culprit.service culprit-serve.service culprit-serve-fleet.service culprit-lists.timer
daemon-reload"
	is "rpm: a removal leaves the changed configuration" "$(changed)" "$(printf '%s\n' "$before" ./etc/culprit ./etc/culprit/config.yaml.rpmsave | sed '/^$/d' | sort -u)"
else
	echo "skipped: no rpm here"
fi
echo "PASS"
