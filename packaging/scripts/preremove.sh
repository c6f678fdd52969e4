#!/bin/sh
# Runs before the files are removed. dpkg: remove; rpm: 0. Anything else is an upgrade.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now culprit.service culprit-serve.service culprit-serve-fleet.service culprit-lists.timer || true
	fi
	# Remove what a killed daemon left in the firewall, while the program is still installed.
	culprit rules remove >/dev/null || true
	;;
esac
