#!/bin/sh
# deps.sh run|test: install what is missing to run culprit, or to test it.
#
# It looks for commands, not for packages: any package that provides them is fine. It
# says what is missing, why it is needed and what it will install. It asks for root only
# if there is something to install. If nothing is missing, it prints nothing.
set -eu

# Single files of packages go here, where nobody but the tests looks.
own=/opt/culprit-test/bin

# Some of these commands are only in root's PATH.
PATH=$PATH:/usr/local/bin:/usr/local/sbin:/usr/sbin:/sbin:$own
export PATH

usage() {
	echo "usage: $0 run|test" >&2
	exit 2
}

# wanted prints one line for each thing: what|what for|package with apt|dnf|apk|pacman|zypper.
# A package may be several packages, or "-" if none has it. With apt, package=/path,/path is
# files of the package, which are put into /opt/culprit-test/bin.
wanted() {
	cat <<-'END'
		iptables|puts the rules into the firewall|iptables|iptables-nft|iptables|iptables|iptables
		ip6tables|puts the rules into the IPv6 firewall|iptables|iptables-nft|iptables|iptables|iptables
		strace|traces the processes|strace|strace|strace|strace|strace
		eu-stack|prints the call stack of the program that sent the first packet|elfutils|elfutils|elfutils|elfutils|elfutils
	END
	[ "$1" = test ] || return 0
	# On Debian only dnsmasq-base: the package dnsmasq starts a service on port 53.
	# The same goes for prometheus, on port 9090: only one file of it is taken. So it is with runtimes
	# of containers, which start daemons, bridges and firewall rules.
	# On Alpine PHP's package has the version in its name; cmd: finds the current one.
	cat <<-'END'
		xtables-nft-multi|tests with the nftables backend|iptables|iptables-nft|iptables|iptables|iptables
		xtables-legacy-multi|tests with the legacy backend|iptables|iptables-legacy|iptables-legacy|iptables|iptables
		nft|shows what is left in nf_tables by the tests|nftables|nftables|nftables|nftables|nftables
		ip|makes the network namespaces of the tests|iproute2|iproute|iproute2|iproute2|iproute2
		dnsmasq|is the resolver of the tests|dnsmasq-base|dnsmasq|dnsmasq|dnsmasq|dnsmasq
		php|looks names up in the tests|php-cli|php-cli|cmd:php|php|php8-cli
		dig|looks names up in the tests|bind9-dnsutils|bind-utils|bind-tools|bind|bind-utils
		static-busybox|looks names up in the tests, also in containers that hold nothing else|busybox-static|busybox|busybox-static|busybox|busybox-static
		podman|runs the containers of the tests|podman|podman|podman|podman|podman
		runc|runs the containers of the tests|runc|runc|runc|runc|runc
		newuidmap|runs a container of a user in a test|uidmap|shadow-utils|shadow-uidmap|shadow|shadow
		containerd|runs a container of a test|containerd=/usr/bin/containerd,/usr/bin/containerd-shim-runc-v2,/usr/bin/ctr|containerd|containerd|containerd|containerd
		dockerd|runs a container of a test|libdevmapper1.02.1 docker.io=/usr/sbin/dockerd|moby-engine|docker-engine|docker|docker
		lxc-start|runs a container of a test|liblxc1 lxc=/usr/bin/lxc-start,/usr/bin/lxc-stop|lxc|lxc|lxc|lxc
		systemd-nspawn|runs a container of a test|systemd-container=/usr/bin/systemd-nspawn,/lib/systemd/systemd-machined|systemd-container|-|systemd|systemd-container
		dbus-daemon|is between two programs of a test|dbus-daemon|dbus-daemon|dbus|dbus|dbus-1
		pasta|sends for network namespaces of the tests|passt|passt|passt|passt|passt
		aardvark-dns|answers containers of a test|aardvark-dns|aardvark-dns|aardvark-dns|aardvark-dns|aardvark-dns
		slirp4netns|sends for network namespaces of the tests|slirp4netns|slirp4netns|slirp4netns|slirp4netns|slirp4netns
		curl|looks names up in the tests|curl|curl|curl|curl|curl
		python3|looks names up in the tests|python3|python3|python3|python|python3
		tshark|reads the packets that the tests write|tshark|wireshark-cli|tshark|wireshark-cli|wireshark
		capinfos|reads the packets that the tests write|wireshark-common|wireshark-cli|wireshark-common|wireshark-cli|wireshark
		chromium|shows the reports and pages that the tests make|chromium|chromium|chromium|chromium|chromium
		promtool|checks the metrics and alerts|prometheus=/usr/bin/promtool|golang-github-prometheus|prometheus|prometheus|golang-github-prometheus-prometheus
		minisign|verifies what the tests sign|minisign|minisign|minisign|minisign|minisign
		zstd|reads the traces that the tests compress|zstd|zstd|zstd|zstd|zstd
		shellcheck|checks the scripts|shellcheck|ShellCheck|shellcheck|shellcheck|ShellCheck
		rpm|installs the rpm package in a test|rpm|-|-|-|-
		systemd-analyze|checks the unit in a test|systemd|-|-|-|-
		php-fpm|is a server whose worker is stopped in a test|php-fpm|-|-|-|-
		apache2|is a server whose worker is stopped in a test|apache2-bin|-|-|-|-
		supervisord|has a child that is stopped in a test|supervisor|-|-|-|-
		cron|starts the script of a test|cron=/usr/sbin/cron|-|-|-|-
		bash|is a shell with job control in a test|bash|bash|bash|bash|bash
		dash|is a shell with job control in a test|dash|dash|dash|dash|dash
		script|gives programs a terminal in a test|bsdutils|util-linux|util-linux-misc|util-linux|util-linux
		sudo|runs programs as others in a test|sudo|sudo|sudo|sudo|sudo
		logrotate|rotates the events in a test|logrotate|-|-|-|-
		mkfs.ext4|makes the disk that breaks in the tests|e2fsprogs|e2fsprogs|e2fsprogs|e2fsprogs|e2fsprogs
		static-cc|compiles the tests' static C program|gcc libc6-dev|gcc glibc-static|gcc musl-dev|gcc|gcc glibc-devel-static
	END
}

# have tells whether a wanted thing is installed. A compiler alone cannot always build
# static programs, so have tries that.
have() {
	case $1 in
	static-cc)
		command -v "${CC:-cc}" >/dev/null || return 1
		dir=$(mktemp -d)
		echo 'int main(void) { return 0; }' >"$dir/a.c"
		status=0
		"${CC:-cc}" -static -o "$dir/a" "$dir/a.c" 2>/dev/null || status=1
		rm -rf "$dir"
		return $status
		;;
	static-busybox)
		command -v busybox >/dev/null || return 1
		for busybox in busybox.static busybox-static busybox; do
			! command -v $busybox >/dev/null || ldd "$(command -v $busybox)" >/dev/null 2>&1 || return 0
		done
		return 1
		;;
	aardvark-dns) [ -x /usr/lib/podman/aardvark-dns ] || [ -x /usr/libexec/podman/aardvark-dns ] ;;
	# Only tests with Debian's packages need these. They run where dpkg manages packages.
	php-fpm) ls /usr/sbin/php-fpm* >/dev/null 2>&1 || ! dpkg --status dpkg >/dev/null 2>&1 ;;
	rpm | systemd-analyze | systemd-nspawn | logrotate | cron | apache2 | supervisord) command -v "$1" >/dev/null || ! dpkg --status dpkg >/dev/null 2>&1 ;;
	chromium)
		for browser in chromium chromium-browser google-chrome; do
			! command -v $browser >/dev/null || return 0
		done
		return 1
		;;
	*) command -v "$1" >/dev/null ;;
	esac
}

# manager prints the package manager's command and its column in wanted.
manager() {
	column=3
	for m in apt-get dnf apk pacman zypper; do
		if command -v $m >/dev/null; then
			echo "$m $column"
			return
		fi
		column=$((column + 1))
	done
	echo "none 0"
}

# as_root runs a command as root.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# quietly installs Debian packages, whose services neither start now nor with the machine: a test
# starts what it needs by itself. Who has a policy of his own (invoke-rc.d(8)) keeps it.
# shellcheck disable=SC2016 # it is for another shell
quietly='
	policy=/usr/sbin/policy-rc.d
	ours="made by scripts/deps.sh of culprit for the time of an installation: it can be removed"
	made=
	clean_up() { [ -z "$made" ] || rm -f "$policy"; }
	trap clean_up EXIT
	trap "exit 130" HUP INT TERM
	if (set -C && printf "#!/bin/sh\n# %s\nexit 101\n" "$ours" >"$policy") 2>/dev/null || grep -qs "$ours" "$policy"; then
		made=yes # or left by one that was killed
		chmod 755 "$policy"
	else
		echo "note: $policy is there already and says whether services start"
	fi
	installed() { dpkg-query --show --showformat "\${db:Status-Status} \${Package}\n" | sed -n "s/^installed //p" | sort; }
	before=$(installed)
	status=0
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends "$@" || status=$?
	command -v systemctl >/dev/null || exit $status
	for package in $(installed); do
		case "
$before
" in *"
$package
"*) continue ;; esac
		case $package in systemd* | udev | dbus*) continue ;; esac # what a machine begins with is not for us
		for unit in $(dpkg --listfiles "$package" | grep -E "/systemd/system/[^/]+\.(service|socket|timer|path)$" | sed "s|.*/||"); do
			[ "$(systemctl is-enabled "$unit" 2>/dev/null)" != enabled ] || systemctl --quiet disable "$unit"
		done
	done
	exit $status
'

install_with() {
	m=$1
	shift
	case $m in
	apt-get)
		as_root apt-get update -qq
		whole=
		for p in "$@"; do
			case $p in
			*=/*) take "${p%%=*}" "${p#*=}" || return ;;
			*) whole="$whole $p" ;;
			esac
		done
		# shellcheck disable=SC2086 # a list of package names
		[ -z "$whole" ] || as_root sh -eu -c "$quietly" sh $whole
		;;
	dnf) as_root dnf install -y --setopt=install_weak_deps=False "$@" ;;
	apk) as_root apk add "$@" ;;
	pacman) as_root pacman -S --noconfirm --needed "$@" ;;
	zypper) as_root zypper --non-interactive install --no-recommends "$@" ;;
	esac
}

# take puts files of a Debian package into a directory of ours, and installs nothing else.
take() {
	dir=$(mktemp -d)
	as_root install -d -m 755 "$own"
	(cd "$dir" && apt-get download -qq -o APT::Sandbox::User=root "$1" && dpkg-deb --extract ./*.deb . &&
		for file in $(echo "$2" | tr , ' '); do
			[ -e ".$file" ] || file=/usr$file # where /usr is merged
			as_root install -m 755 ".$file" "$own/" || exit
		done)
	status=$?
	rm -rf "$dir"
	return $status
}

# by_hand prints the command to type by hand.
by_hand() {
	m=$1
	shift
	case $m in
	apt-get)
		printf 'apt-get update && apt-get install --no-install-recommends'
		files=
		for p in "$@"; do
			case $p in
			*=/*) files="$files, and ${p#*=} of the package ${p%%=*} into $own" ;;
			*) printf ' %s' "$p" ;;
			esac
		done
		echo "$files"
		;;
	dnf) echo "dnf install $*" ;;
	apk) echo "apk add $*" ;;
	pacman) echo "pacman -S $*" ;;
	zypper) echo "zypper install $*" ;;
	esac
}

# still_missing prints the names of what is missing, one per line.
still_missing() {
	wanted "$1" | while IFS='|' read -r what _; do
		have "$what" || echo "$what"
	done
}

[ $# -eq 1 ] || usage
case $1 in run | test) ;; *) usage ;; esac

missing=$(still_missing "$1")
[ -n "$missing" ] || exit 0

found=$(manager)
m=${found% *}
column=${found#* }

packages=
for what in $missing; do
	line=$(wanted "$1" | grep "^$what|")
	reason=$(echo "$line" | cut -d'|' -f2)
	name=$what
	[ "$what" = static-cc ] && name="a C compiler and a static C library"
	[ "$what" = static-busybox ] && name="a busybox without libraries"
	if [ "$m" = none ]; then
		echo "missing: $name ($reason)" >&2
		continue
	fi
	package=$(echo "$line" | cut -d"|" -f"$column")
	echo "missing: $name ($reason): installing package $package"
	for p in $package; do
		case " $packages " in *" $p "*) ;; *) packages="$packages $p" ;; esac
	done
done

if [ "$m" = none ]; then
	echo "error: found none of apt-get, dnf, apk, pacman and zypper: install the above by hand, then run make again" >&2
	exit 1
fi
# shellcheck disable=SC2086 # a list of package names
set -- "$1" $packages
kind=$1
shift

if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "error: installing needs root, and there is no sudo here. As root: $(by_hand "$m" "$@")" >&2
		exit 1
	fi
	echo "asking for root (sudo) to install: $*"
fi
if ! install_with "$m" "$@"; then
	echo "error: installation failed: see what $m says above; then, as root: $(by_hand "$m" "$@")" >&2
	exit 1
fi
missing=$(still_missing "$kind")
if [ -n "$missing" ]; then
	# shellcheck disable=SC2086 # one line for the message
	echo "error: still missing after installing $*:" $missing "(install it by hand, then run make again)" >&2
	exit 1
fi
