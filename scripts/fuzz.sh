#!/bin/sh
# fuzz.sh TIME: run every fuzz target of the module for TIME, one after the other.
#
# `go test -fuzz` takes one target at a time, so they are looked up in the source.
set -eu

time=${1:?usage: $0 TIME, such as 30s}
go=${GO:-go}

grep -rho --include='*_test.go' -e '^func Fuzz[A-Za-z0-9_]*' --with-filename . |
	sed -e 's|/[^/]*:func | |' | sort -u |
	while read -r dir target; do
		echo "== $dir $target"
		"$go" test -run='^$' -fuzz="^$target\$" -fuzztime="$time" -fuzzminimizetime=1x "$dir" </dev/null
	done
