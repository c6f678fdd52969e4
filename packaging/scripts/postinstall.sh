#!/bin/sh
# Runs after the files are installed. dpkg: configure [OLD-VERSION]; rpm: 1 to install, 2 to upgrade.
set -e

systemd() { [ -d /run/systemd/system ]; }

case "$1:$2" in
configure:?* | 2:*) # an upgrade
	if systemd; then
		systemctl daemon-reload
		# If it does not start, do not leave the package half installed.
		systemctl try-restart culprit.service culprit-serve.service culprit-serve-fleet.service ||
			echo "culprit did not restart: see journalctl -u culprit, and culprit check" >&2
	fi
	;;
configure: | 1:*)
	if systemd; then
		systemctl daemon-reload
	fi
	cat <<-'END'
		culprit is installed and not running: it needs to know what to look for.
		  1. Write your rules into /etc/culprit/config.yaml, and try: culprit check
		  2. See what this machine offers: culprit doctor
		  3. Start it, now and at each boot: systemctl enable --now culprit
		Without systemd, and for all the rest: /usr/share/doc/culprit/operations.md
	END
	;;
esac
