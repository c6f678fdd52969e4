#!/bin/bash
# Records the samples anew: record.sh OFFENDER-C OFFENDER-GO, as root. It needs dnsmasq,
# dumpcap, strace and the programs below; it works in namespaces of its own.
set -u
if [ "${INSIDE:-}" = "" ]; then
	INSIDE=1 exec unshare -n -m "$0" "$(realpath "$1")" "$(realpath "$2")"
fi
cd "$(dirname "$0")"
tmp=$(mktemp -d /tmp/record-XXXXXX)
chmod 755 "$tmp"
install -m 755 "$1" "$tmp/offender-c"
install -m 755 "$2" "$tmp/offender-go"
install -m 644 query.py "$tmp/"
ip link set lo up
mount --make-rprivate /
printf 'nameserver 127.0.0.1\nsearch .\n' >"$tmp/resolv.conf"
mount --bind "$tmp/resolv.conf" /etc/resolv.conf
dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --user=root --no-resolv --no-hosts --cache-size=0 \
	--bind-interfaces --listen-address=127.0.0.1,::1 --address=/test/192.0.2.1 --address=/test/2001:db8::1 &
resolver=$!
sleep 0.5

# What is left out of a trace.
calls='read|pread64|getdents64|mmap|munmap|mprotect|newfstatat|fstat|stat|lstat|statx|close|lseek|brk|rt_sig\w+|sigaltstack|futex|madvise|fcntl|access|ioctl|readlink|getcwd|sched_\w+|prlimit64|arch_prctl|prctl|set_tid_address|set_robust_list|rseq|getrandom|epoll_\w+|tgkill|nanosleep|clock_\w+|get\w*id|uname|sysinfo|restart_syscall|mbind|set_mempolicy|capget|capset|pkey_alloc|io_uring_setup'

# record NAME STRACE-OPTIONS -- PROGRAM …
record() {
	local name=$1 options=()
	shift
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	dumpcap -q -i lo -P -w "$tmp/$name.pcap" >/dev/null 2>&1 &
	local dump=$!
	sleep 0.7
	(cd /tmp && env -i PATH=/usr/bin:/bin LANG=C timeout 20 strace -f -ttt -T -yy -v -s 512 "${options[@]}" \
		-o "$tmp/$name.strace" "$@" >/dev/null 2>&1)
	sleep 0.3
	kill $dump
	wait $dump
	install -m 644 "$tmp/$name.pcap" .
	grep -avE "^[0-9]+ +[0-9.]+ (<\.\.\. )?($calls)[( ]|\"[^\"]*\.so|ENOENT" "$tmp/$name.strace" | sed "s|$tmp|/tmp|g" >"$name.strace"
}

name=x.badzone.test
lookup='import socket; socket.getaddrinfo("x.badzone.test",80)'
record busybox -- busybox nslookup $name 127.0.0.1
record c -- "$tmp/offender-c" -n $name -w
record c-tcp -- "$tmp/offender-c" -n $name -t -w
record c-tcp6 -- "$tmp/offender-c" -n $name -t -w -s ::1
record curl -- curl -s --connect-timeout 1 http://$name/
record cut -s 8 -- /usr/bin/python3 -ISc "$lookup"
record dig -- dig +tries=1 +time=1 $name
record dig-tcp -- dig +tcp +tries=1 +time=1 $name
record dig6 -- dig @::1 $name
record getent -- getent hosts $name
record go -- "$tmp/offender-go" -n $name -w -c 3
record go-tcp -- "$tmp/offender-go" -n $name -w -t
record hex -x -- /usr/bin/python3 -ISc "$lookup"
record node -- node -e 'require("dns").resolve4("x.badzone.test",()=>{})'
record php -- php -r 'gethostbyname("x.badzone.test");'
record python -- /usr/bin/python3 -ISc "$lookup"
record python-tcp -- env RES_OPTIONS=use-vc /usr/bin/python3 -ISc "$lookup"
record query -s 65535 -- /usr/bin/python3 -IS "$tmp/query.py"
kill $resolver
umount /etc/resolv.conf
rm -r "$tmp"
