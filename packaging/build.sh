#!/bin/sh
# build.sh VERSION deb|rpm...: build packages of bin/culprit in bin/packages.
#
# The same commit gives the same bytes: every time in them is the commit's. MAINTAINER="name
# <address>" sets the maintainer of the packages: by default the author of the commit.
set -eu

cd "$(dirname "$0")/.."
go=${GO:-go}
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0 # later versions need more to build
version=${1:?usage: $0 VERSION deb|rpm...}
shift

# The time of the commit, or the one set by a person who builds from an archive.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH
ARCH=$($go env GOARCH)

# Package managers order versions: v1.2.3-rc1 comes before v1.2.3, which comes before
# v1.2.3-5-gabcdef of git describe. A version without a tag comes before all of them.
case $version in
v[0-9]*)
	PACKAGE_VERSION=$(echo "${version#v}" |
		sed -E 's/-([0-9]+)-(g[0-9a-f]+)/+\1.\2/; s/-dirty$/+dirty/; s/-/~/g')
	;;
*) PACKAGE_VERSION="0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S)+$(echo "$version" | tr -c 'A-Za-z0-9\n' .)" ;;
esac
: "${MAINTAINER:=$(git log -1 --format='%an <%ae>' 2>/dev/null || echo 'the culprit authors <root@localhost>')}"
export ARCH PACKAGE_VERSION MAINTAINER

stage=bin/packages/stage
rm -rf "$stage"
mkdir -p "$stage/man"
bin/culprit man "$stage/man"
gzip -9n "$stage"/man/*
bin/culprit completion bash >"$stage/culprit.bash"
bin/culprit completion fish >"$stage/culprit.fish"
bin/culprit completion zsh >"$stage/_culprit"

for kind; do
	rm -f bin/packages/*."$kind"
	"$go" run "$nfpm" package --config packaging/nfpm.yaml --packager "$kind" --target bin/packages
done
