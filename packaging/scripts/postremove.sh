#!/bin/sh
# Runs after the files are removed. dpkg: remove, purge; rpm: 0. Anything else is an upgrade.
set -e

# resume LIST: resume the programs of a list, as the next culprit would have done. A line is
# PID-START; the start is field 22 of /proc/PID/stat, counted after the name.
resume() {
	gone=$(sed -n 's/^gone //p' "$1")
	while IFS=- read -r pid start; do
		! echo "$gone" | grep -qxF "$pid-$start" || continue
		now=$(tr '\n' ' ' 2>/dev/null <"/proc/$pid/stat" | sed 's/.*) //' | cut -d ' ' -f 20) || true
		[ -z "$start" ] || [ "$now" != "$start" ] || kill -CONT "$pid" || true
	done <"$1"
}

# listening SOCKET: whether somebody listens on it, in any network namespace.
listening() { cat /proc/[0-9]*/net/unix 2>/dev/null | awk -v path="$1" '$NF == path {found = 1} END {exit !found}'; }

# clear_run removes what dead culprits left in /run/culprit: lists that nobody has locked,
# sockets of their metrics, BPF file systems, and the directory of libraries that eu-stack
# does without, which is made again when it is needed. Another culprit, with its own binary, may still use the
# directory.
clear_run() {
	[ -d /run/culprit ] || return 0
	exec 9</run/culprit
	# Lock the directory, as culprit does: a list that is created but not locked yet looks abandoned.
	flock --timeout 10 9 || return 0
	for file in /run/culprit/*; do
		case $file in
		*/stopped*)
			if [ -f "$file" ] && flock --nonblock "$file" true 9<&-; then
				resume "$file"
				rm -f "$file"
			fi
			;;
		*/eu-stack) rm -rf "$file" ;;
		*/bpf) # of the unit; what is pinned there is another culprit's
			if [ -z "$(ls "$file")" ]; then
				umount "$file" 2>/dev/null || true
				rmdir "$file" || true
			fi
			;;
		*/bpf-*)
			if [ "$(cat "/proc/${file##*-}/comm" 2>/dev/null)" != culprit ]; then
				umount -l "$file" 2>/dev/null || true
				rmdir "$file" || true
			fi
			;;
		*) [ ! -S "$file" ] || listening "$file" || rm -f "$file" ;;
		esac
	done
	exec 9<&-
	rmdir /run/culprit 2>/dev/null || true # others may have files in it
}

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
	fi
	clear_run
	if [ -d /var/lib/culprit ]; then
		echo "culprit: the evidence is still in /var/lib/culprit"
	fi
	;;
purge)
	rm -rf /etc/culprit /var/lib/culprit /var/log/culprit
	;;
esac
