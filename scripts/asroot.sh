#!/bin/sh
# asroot.sh COMMAND [ARGUMENT…]: run a command as root, with sudo if needed.
#
# `go test -exec scripts/asroot.sh` compiles as the user and runs the tests as
# root. sudo drops the environment, so the variables that tests read are named here. The
# system's directories come first in PATH: root runs no iptables from ~/bin. What only
# tests use comes last (scripts/deps.sh).
set -eu

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH:/opt/culprit-test/bin
export PATH
[ "$(id -u)" = 0 ] && exec "$@"

if ! command -v sudo >/dev/null; then
	echo "error: this needs root, and there is no sudo here: run it again as root" >&2
	exit 1
fi
# The loop puts NAME=VALUE before the command for each name that is set.
for name in PATH TERM TMPDIR CI CULPRIT_BIN CULPRIT_OFFENDERS CULPRIT_NATS_SERVER CULPRIT_KEEP CULPRIT_KILLS CULPRIT_KILL_SEED SOAK SOAK_FILE CULPRIT_PROGRAMS GORACE FLEET_FOR; do
	if eval "[ -n \"\${$name+set}\" ]"; then
		eval "set -- \"$name=\$$name\" \"\$@\""
	fi
done
exec sudo env "$@"
