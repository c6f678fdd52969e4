#!/bin/sh
# systemd-test.sh: run the deb of bin/packages under a systemd.
#
# Needs root, dpkg, systemd, iptables, strace, overlayfs and cgroup v2. The systemd is
# the first process of namespaces of its own, on a copy of this machine that is thrown
# away, with a journald and nothing else. There culprit hunts within the limits of its
# unit; is reloaded, killed, stuck, given a wrong configuration, and stopped. Beside it
# the units that show its evidence to browsers, its own and that of a fleet.
set -eu

if [ "${1:-}" != inside ]; then
	if ! dpkg --status dpkg >/dev/null 2>&1 || ! [ -x /lib/systemd/systemd ]; then
		echo "skipped: this machine's packages are not dpkg's, or it has no systemd"
		[ -z "${CI:-}" ] || { echo "FAIL: CI skips nothing: run it on Debian" >&2 && exit 1; }
		exit 0
	fi
	cd "$(dirname "$0")/.."
	exec timeout -s KILL 300 unshare --mount --uts --net "$0" inside
fi

fail() {
	echo "FAIL: $*" >&2
	[ -z "$init" ] || on journalctl -u culprit -u culprit-serve -u culprit-serve-fleet --no-pager -n 30 >&2 || true
	exit 1
}

deb=$(echo bin/packages/*.deb)
init=
work=$(mktemp -d)
clean_up() {
	[ -z "$init" ] || kill -KILL "$init" 2>/dev/null || true
	umount -l "$work" 2>/dev/null || true
	rmdir "$work"
}
trap clean_up EXIT
[ -f "$deb" ] || fail "want one package in bin/packages, have $deb: make packages builds it"

mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
root=$work/root
rm -rf "$root"/etc/systemd/system/* "$root/var/lib/culprit" "$root/etc/culprit" "$root/var/log/journal"
od -An -N16 -tx1 /dev/urandom | tr -d ' ' >"$root/etc/machine-id"
printf '[Unit]\nRequires=systemd-journald.service\nAfter=systemd-journald.service\n' >"$root/etc/systemd/system/test.target"
ip link set lo up
cat >"$work/boot" <<-'END'
	mount -t proc proc "$1/proc"
	mount -t sysfs sysfs "$1/sys"
	mount -t bpf bpf "$1/sys/fs/bpf"
	mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
	mount --rbind /dev "$1/dev"
	mount -t tmpfs tmpfs "$1/run"
	mount -t tmpfs tmpfs "$1/tmp"
	exec env container=culprit-test chroot "$1" /lib/systemd/systemd --unit=test.target --log-target=null --show-status=no
END
unshare --mount --pid --fork --kill-child --ipc --cgroup sh -eu "$work/boot" "$root" >"$work/boot.log" 2>&1 &
unshare=$!
on() { nsenter -t "$init" --mount --pid --net --ipc --cgroup --root --wd "$@"; }
# until_true WHAT COMMAND...: wait for it, 60 s at most.
until_true() {
	what=$1
	shift
	tries=0
	until "$@" >/dev/null 2>&1; do
		[ $((tries += 1)) -lt 300 ] || fail "$what: not within a minute"
		sleep 0.2
	done
}
tries=0
until init=$(pgrep -P "$unshare") && on systemctl is-active test.target >/dev/null 2>&1; do
	[ $((tries += 1)) -lt 100 ] || fail "systemd does not start: $(cat "$work/boot.log")"
	sleep 0.2
done

# What the journal has of culprit; with grep's arguments.
journal() { on journalctl -u culprit --no-pager -o cat | grep "$@"; }
# Ask as a user that nobody else has, until something is so.
uid=$((71000000 + $$))
ask() {
	on setpriv --reuid $uid --regid 65534 --clear-groups bash -c "echo $1 >/dev/udp/127.0.0.1/53" || true
}
ask_until() {
	what=$1 text=$2
	shift 2
	tries=0
	until "$@" >/dev/null 2>&1; do
		[ $((tries += 1)) -lt 150 ] || fail "$what: not within half a minute"
		ask "$text"
		sleep 0.2
	done
}
proven() { on culprit hits --rule "$1" --json | grep -q '"grade":"proof"'; }
active() { [ "$(on systemctl is-active culprit)" = active ]; }

cp "$deb" "/proc/$init/root/tmp/culprit.deb"
on dpkg --install /tmp/culprit.deb >"$work/out" 2>&1 || fail "install: $(cat "$work/out")"
config=/proc/$init/root/etc/culprit/config.yaml
# The copy is in memory, which may have less than a GiB to spare.
sed -i 's/min_free: 1GiB/min_free: 0B/; s/journald: false/journald: true/; s|listen: ""|listen: "unix:/run/culprit/metrics.sock"|' "$config"
cp "$config" "$work/config"

on systemctl start culprit || fail "it does not start"
active || fail "it is not active"
ask_until "a hit is proven" BADZONE proven badzone
echo "ok: it hunts within the limits of its unit"
# The sensor loads and tries everything. Only then it says that it cannot tell processes in the
# PID namespace of this test. Anything else that is wrong would be named instead.
# The last time that it said so, with a line for each way.
can_work() {
	on journalctl -u culprit --no-pager -o cat | awk '/no sensor/ { said = "" } { said = said $0 "\n" } END { print said }' >"$work/sensor"
	for way; do
		grep -q "$way: culprit runs in a PID namespace" "$work/sensor" || fail "the unit does not let the sensor work ($way): $(grep -A 4 'no sensor' "$work/sensor")"
	done
}
can_work nflog rule mark
echo "ok: the sensor can work within the limits of its unit"
on journalctl -t culprit-events --no-pager -o cat | grep -q '"dataset":"culprit.proof"' || fail "its events are not in the journal"
[ "$(on curl -s --unix-socket /run/culprit/metrics.sock http://localhost/healthz)" = ok ] || fail "it says that it is not well"
echo "ok: its events are in the journal, its numbers can be read"

sed -i 's/string: BADZONE/string: OTHERZONE/; s/name: badzone/name: other/' "$config"
# systemd before 253 does not know Type=notify-reload.
on systemctl reload culprit 2>/dev/null || on systemctl kill -s HUP --kill-who=main culprit
ask_until "a hit of the new rule is proven" OTHERZONE proven other
echo 'rules: [' >"$config"
on systemctl kill -s HUP --kill-who=main culprit
until_true "a wrong configuration is refused" journal -q 'was not reloaded'
on journalctl -u culprit -p err --no-pager -o cat | grep -q 'was not reloaded' || fail "an error has no priority of an error in the journal"
active || fail "it ended for a wrong configuration"
cp "$work/config" "$config"
echo "ok: it is reloaded, and refuses a wrong configuration"

# Nobody listens there: so it got as far as the network, as another user and within its limits.
sed -i 's|  sources: .*|  sources: [{url: "https://127.0.0.1:1/x", file: /etc/culprit/lists/x.txt}]|' "$config"
! on systemctl start culprit-lists.service 2>/dev/null || fail "a list was fetched from nobody"
on journalctl -u culprit-lists --no-pager -o cat | grep -q '/etc/culprit/lists/x.txt stays as it is: .*connection refused' ||
	fail "lists are not fetched: $(on journalctl -u culprit-lists --no-pager -o cat)"
cp "$work/config" "$config"
echo "ok: lists are fetched within the limits of their unit"

# page UNIT PATH: what a browser gets by the socket of a unit.
page() { on curl -sf --unix-socket "/run/$1/serve.sock" "http://localhost$2"; }
shows() { page "$1" "$2" | grep -q "$3"; }
# confined UNIT: it has no capability, gets none, and can write to its own directories only.
confined() {
	pid=$(on systemctl show -P MainPID "$1")
	on grep -E '^(Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):' "/proc/$pid/status" >"$work/out"
	[ "$(tr -d '\t\n' <"$work/out")" = CapPrm:0000000000000000CapEff:0000000000000000CapBnd:0000000000000000NoNewPrivs:1Seccomp:2 ] ||
		fail "$1 is not confined: $(cat "$work/out")"
	! on nsenter -t "$pid" --mount touch /etc/culprit/x 2>/dev/null || fail "$1 can write to /etc/culprit"
	! on setpriv --reuid $uid --regid 65534 --clear-groups curl -sf --unix-socket "/run/$1/serve.sock" http://localhost/ >/dev/null ||
		fail "another user can use the socket of $1"
}
on systemctl start culprit-serve || fail "culprit-serve does not start"
until_true "culprit-serve shows the hits" shows culprit-serve / 'data-label="Rule">badzone<'
shows culprit-serve / 'class="runs">culprit is running' || fail "culprit-serve does not say that culprit runs: $(page culprit-serve / | grep status)"
capture=$(on culprit captures --json | head -1 | sed -n 's/.*"event":{"id":"\([^"]*\)".*/\1/p')
[ -n "$capture" ] || fail "there is no capture: $(on culprit captures --json)"
page culprit-serve "/captures/$capture.tar.zst" >"$work/out" || fail "culprit-serve does not export a capture"
[ -s "$work/out" ] || fail "culprit-serve exports nothing"
confined culprit-serve
serving=$(on systemctl show -P MainPID culprit-serve)
on systemctl restart culprit
active || fail "it is not active after a restart"
ask_until "culprit-serve shows hits after a restart of culprit" BADZONE shows culprit-serve '/?since=10s' 'data-label="Rule">badzone<'
shows culprit-serve / 'class="runs">culprit is running' || fail "culprit-serve does not see the culprit that was restarted"
[ "$(on systemctl show -P MainPID culprit-serve)" = "$serving" ] || fail "culprit-serve was restarted with culprit"
echo "ok: the evidence is shown within the limits of its unit, over a restart of culprit"

cp bin/nats-server "/proc/$init/root/tmp/nats-server"
on culprit fleet accounts --dir /etc/culprit/keys "$(on hostname)" >"/proc/$init/root/tmp/culprit.conf" 2>/dev/null || fail "no keys for a fleet"
printf 'listen: "127.0.0.1:4222"\njetstream { store_dir: "/tmp/nats", max_file_store: 40GB }\ninclude "culprit.conf"\n' >"/proc/$init/root/tmp/nats.conf"
on systemd-run --quiet --unit=nats /tmp/nats-server -c /tmp/nats.conf
init_fleet() { on culprit fleet init --servers nats://127.0.0.1:4222 --credentials /etc/culprit/keys/operator.nk --host "$(on hostname)" >"$work/out" 2>&1; }
tries=0
until init_fleet; do
	[ $((tries += 1)) -lt 60 ] || fail "no fleet is made: $(cat "$work/out")"
	sleep 0.5
done
printf 'rules: [{name: unused, string: UNUSED}]\nfleet: {servers: ["nats://127.0.0.1:4222"], credentials: "/etc/culprit/keys/reader.nk"}\nserve: {listen: "unix:/run/culprit-serve-fleet/serve.sock"}\nevidence: {min_free: 0B}\n' \
	>"/proc/$init/root/etc/culprit/fleet.yaml"
on systemctl start culprit-serve-fleet || fail "culprit-serve-fleet does not start"
until_true "culprit-serve-fleet shows an empty fleet" shows culprit-serve-fleet / 'No hits yet'
sed -i "s|^  servers: \[\]|  servers: [\"nats://127.0.0.1:4222\"]|; s|^  credentials: \"\"|  credentials: /etc/culprit/keys/$(on hostname).nk|" "$config"
grep -q 'servers: \["nats' "$config" || fail "the configuration has no place for a fleet"
on systemctl restart culprit
ask_until "culprit-serve-fleet shows the hits of a host" BADZONE shows culprit-serve-fleet / 'data-label="Rule">badzone<'
until_true "culprit-serve-fleet shows that the host is there" shows culprit-serve-fleet /hosts '>alive<'
confined culprit-serve-fleet
on systemctl stop culprit-serve-fleet nats
[ "$(on systemctl show -P Result culprit-serve-fleet)" = success ] || fail "the end of culprit-serve-fleet was no success"
cp "$work/config" "$config"
on systemctl restart culprit
echo "ok: a fleet is shown within the limits of its unit"

main=$(on systemctl show -P MainPID culprit)
on systemctl kill -s KILL --kill-who=main culprit
restarted() { active && [ "$(on systemctl show -P MainPID culprit)" != "$main" ]; }
until_true "systemd starts it again after a kill" restarted
[ "$(on iptables-save | grep -c ' -j CULPRIT$')" = 1 ] || fail "after a kill the firewall has $(on iptables-save)"
ask_until "a hit is proven after a kill" BADZONE journal -q 'msg=proven'
echo "ok: it is started again after a kill"

on mkdir -p /run/systemd/system/culprit.service.d
printf '[Service]\nWatchdogSec=5s\nRestartSec=1s\n' >"/proc/$init/root/run/systemd/system/culprit.service.d/test.conf"
on systemctl daemon-reload
on systemctl restart culprit
main=$(on systemctl show -P MainPID culprit)
on kill -STOP "$main"
until_true "systemd ends it when it is stuck, and starts it again" restarted
echo "ok: the watchdog watches"

on systemctl stop culprit
! on iptables-save | grep -q CULPRIT || fail "after the end the firewall has $(on iptables-save)"
[ "$(on systemctl show -P Result culprit)" = success ] || fail "the end was no success: $(on systemctl status culprit)"
echo 'rules: [' >"$config"
! on systemctl start culprit 2>/dev/null || fail "it starts with a wrong configuration"
sleep 3 # RestartSec is 1 s here
[ "$(on systemctl show -P ExecMainStatus culprit) $(on systemctl is-active culprit)" = "2 failed" ] || fail "with a wrong configuration it is started again: $(on systemctl status culprit)"
echo "ok: it stops in good order, and is not started again with a wrong configuration"
