#!/bin/sh
# After the files are gone. dpkg: remove, purge; rpm: 0. Anything else is an upgrade.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
	fi
	rm -rf /run/culprit
	if [ -d /var/lib/culprit ]; then
		echo "culprit: the evidence is still in /var/lib/culprit"
	fi
	;;
purge)
	rm -rf /etc/culprit /var/lib/culprit /var/log/culprit
	;;
esac
