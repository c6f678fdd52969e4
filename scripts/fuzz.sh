#!/bin/sh
# fuzz.sh BUDGET: run every fuzz target of the module for a time (30s) or a number of inputs (2000x),
# one after the other. A time can end in a bare "context deadline exceeded", which is no finding but a
# race in Go before 1.27 (golang.org/issue/75804); a number cannot.
#
# One target is run at a time, so they are looked up in the source.
set -eu

budget=${1:?usage: $0 BUDGET, such as 30s or 2000x}
go=${GO:-go}

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
cache=$("$go" env GOCACHE)/fuzz

# The tests of a package are built once; `go test -fuzz` links them anew for each target.
grep -rho --include='*_test.go' -e '^func Fuzz[A-Za-z0-9_]*' --with-filename . |
	sed -e 's|/[^/]*:func | |' | sort -u |
	while read -r dir target; do
		echo "== $dir $target"
		if [ "$dir" != "${built:-}" ]; then
			"$go" test -c -fuzz=. -o "$bin/fuzz.test" "$dir"
			built=$dir
		fi
		(cd "$dir" && "$bin/fuzz.test" -test.run='^$' -test.fuzz="^$target\$" -test.fuzztime="$budget" -test.fuzzminimizetime=1x \
			-test.fuzzcachedir="$cache/$(basename "$dir")" </dev/null)
	done
