#!/bin/sh
# Before the files go. dpkg: remove; rpm: 0. Anything else is an upgrade.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now culprit.service || true
	fi
	# What a killed daemon left in the firewall, while there still is a culprit to do it.
	culprit rules remove >/dev/null || true
	;;
esac
