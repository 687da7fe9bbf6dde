#!/usr/bin/env bash
# usage: scripts/images.sh [busybox] [debian] [go] [all]
#
# Makes the container images that the tests and the demo use, from what this machine has: no registry is asked.
#
#   narwhal/busybox:test   an sh and the usual commands, 2 MB, no network needed to make it
#   narwhal/debian:local   a small Debian with git, gcc and make, from the mirror that apt is set up with
#   narwhal/go:local       that, this machine's Go, the modules of this checkout's go.mod and a warm build
#                          cache: go vet and go test of this repository run in it with no network
#
# Each image carries the label narwhal.content, a hash of what it was made from; an image whose label is right
# is left alone. What debootstrap made is kept in $NARWHAL_CACHE (default ~/.cache/narwhal).
set -eu

say() { printf 'images: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

tree=$(cd "$(dirname "$0")/.." && pwd)
cache=${NARWHAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/narwhal}
suite=bookworm
packages=ca-certificates,gcc,git,libc6-dev,make
work=""   # this run's scratch folder
holder="" # the container that a new image is being made in

clean_up() {
  [ -z "$holder" ] || docker rm -f "$holder" >/dev/null 2>&1 || true
  [ -z "$work" ] || rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

scratch() {
  mkdir -p "$cache"
  [ -n "$work" ] || work=$(mktemp -d "$cache/images.XXXXXX")
}

digest() { sha256sum | cut -c1-16; }
label_of() { docker image inspect --format '{{index .Config.Labels "narwhal.content"}}' "$1" 2>/dev/null || true; }

# commit IMAGE CONTENT [CHANGE…] turns the holder into the image. Containers and not `docker build`, because that
# wants a plugin on some engines and warns on others, and sends what it adds twice.
commit() {
  local image=$1 content=$2 change args=() old
  shift 2
  old=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)
  for change in "$@" "LABEL narwhal.content=$content"; do args+=(--change "$change"); done
  docker commit "${args[@]}" "$holder" "$image" >/dev/null
  docker rm -f "$holder" >/dev/null
  holder=""
  # Without a name nobody would find the hundreds of megabytes again. A container that uses them keeps them.
  if [ -n "$old" ] && [ "$(docker image inspect --format '{{len .RepoTags}}' "$old")" = 0 ]; then
    docker rmi "$old" >/dev/null 2>&1 || true
  fi
  say "made $image"
}

busybox_image() {
  "$tree/scripts/deps.sh" docker busybox
  local image=narwhal/busybox:test content root applet
  content=$({ echo recipe 1; cat /bin/busybox; } | digest)
  [ "$(label_of "$image")" != "$content" ] || return 0
  scratch
  root=$work/busybox
  mkdir -p "$root"/{bin,etc,proc,sys,dev,root,usr,var/tmp} "$root/tmp"
  chmod 1777 "$root/tmp" "$root/var/tmp"
  ln -s bin "$root/sbin"
  ln -s ../bin "$root/usr/bin"
  ln -s ../bin "$root/usr/sbin"
  cp /bin/busybox "$root/bin/busybox"
  for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
  done
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/false\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
  tar -C "$root" --owner=0 --group=0 -c . |
    docker import --change 'CMD ["/bin/sh"]' --change "LABEL narwhal.content=$content" - "$image" >/dev/null
  say "made $image"
}

# mirror prints the address that apt has for the suite; nothing where apt has none, and debootstrap takes its own.
mirror() {
  # shellcheck disable=SC2016 # the variables are apt's
  apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v suite="$suite" '$1 == suite && $2 == "main" { print $3; exit }'
}

debian_content() { echo "recipe 1 $suite $packages $(dpkg --print-architecture)" | digest; }

root_fs=$cache/debian-$suite-$(debian_content).tar

# make_root_fs makes $root_fs, the root file system as a tar file, where there is none.
make_root_fs() {
  [ ! -s "$root_fs" ] || return 0
  [ "$(id -u)" = 0 ] || die "debootstrap needs root; run: sudo $0"
  "$tree/scripts/deps.sh" debootstrap
  scratch
  local root=$work/debian log=$cache/debootstrap.log proxy="" from
  from=$(mirror)
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
  say "debootstrap of $suite from ${from:-its default mirror}, about a minute"
  http_proxy=${proxy:-${http_proxy:-}} debootstrap --variant=minbase --include="$packages" "$suite" "$root" ${from:+"$from"} \
    >"$log" 2>&1 || { tail -n 15 "$log" >&2; die "debootstrap failed; its log is $log"; }
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,locale,man}/*
  rm -rf "${root:?}"/{dev,proc,sys}/*
  # Checkouts belong to whoever made them; git would refuse to work in another user's.
  printf '[safe]\n\tdirectory = *\n' >"$root/etc/gitconfig"
  # By another name first: a tar that was cut short must not be taken for a whole one the next time.
  tar -C "$root" -c . >"$work/debian.tar"
  mv "$work/debian.tar" "$root_fs"
  rm -rf --one-file-system "$root"
}

debian_image() {
  "$tree/scripts/deps.sh" docker
  local image=narwhal/debian:local content
  content=$(debian_content)
  [ "$(label_of "$image")" != "$content" ] || return 0
  make_root_fs
  docker import --change 'CMD ["/bin/bash"]' --change "LABEL narwhal.content=$content" "$root_fs" "$image" >/dev/null
  say "made $image"
}

# toolchain_image puts the installed Go on the Debian image. Its tests and documents, half of its files, stay out.
toolchain_image() {
  local image=$1 content=$2 goroot
  [ "$(label_of "$image")" != "$content" ] || return 0
  debian_image
  goroot=$(go env GOROOT)
  say "adding $(go env GOVERSION) from $goroot"
  holder=$(docker create narwhal/debian:local)
  # The folder may be a link and may have any name; in the image it is /usr/local/go.
  tar -C "$(readlink -f "$goroot")" --owner=0 --group=0 --exclude=./test --exclude=./doc --exclude=./api \
    --exclude=testdata --transform 's,^\.,./usr/local/go,' -c . | docker cp - "$holder:/"
  # CGO_ENABLED=0 is how the binary is built, so its cache is the one worth having; -race asks for 1.
  commit "$image" "$content" 'ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    'ENV GOPATH=/go' 'ENV GOMODCACHE=/go/pkg/mod' 'ENV GOCACHE=/go/cache' 'ENV GOTOOLCHAIN=local' \
    'ENV GOFLAGS=-buildvcs=false' 'ENV GOPROXY=off' 'ENV CGO_ENABLED=0'
}

# fetch_modules fills an empty module cache with what go.mod names, from this machine's cache where it has them.
# It works on copies: go mod download may add lines to go.sum.
fetch_modules() {
  local to=$1 proxies
  mkdir -p "$work/mod" "$to"
  cp "$tree/go.mod" "$tree/go.sum" "$work/mod/"
  proxies="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)"
  (cd "$work/mod" && GOMODCACHE=$to GOFLAGS=-modcacherw GOPROXY=$proxies GOWORK=off go mod download) ||
    die "go mod download failed; run it in $tree to see why"
  # The packed form is not looked at once a module is unpacked.
  find "$to/cache/download" -name '*.zip' -delete
}

# warm_up runs in the container, and compiles what this repository's packages import, and the facts that go vet
# wants of them: a minute that every build in a fresh container would pay. Packages of the repository that do not
# compile today are no reason to fail.
# shellcheck disable=SC2016 # for the container's shell
warm_up='
  go build std || exit 1
  go list -e -deps -test -f "{{with .Module}}{{if not (or .Main \$.Error)}}{{\$.ImportPath}}{{end}}{{end}}" ./... |
    grep -v -e " " -e "\.test$" | sort -u | xargs -r go build -o /dev/null || exit 1
  go vet ./... >/dev/null 2>&1
  chmod -R a+rwX /go'

go_image() {
  "$tree/scripts/deps.sh" docker
  command -v go >/dev/null || die "there is no go in PATH; narwhal/go:local is made from the installed one"
  local image=narwhal/go:local version base toolchain content
  version=$(go env GOVERSION)
  base=narwhal/go:${version#go}
  toolchain=$(echo "recipe 1 $version $(debian_content)" | digest)
  content=$({ echo "recipe 1 $toolchain"; cat "$tree/go.mod" "$tree/go.sum"; } | digest)
  [ "$(label_of "$image")" != "$content" ] || return 0
  toolchain_image "$base" "$toolchain"
  scratch
  say "adding the modules of go.mod and a warm build cache, about two minutes"
  fetch_modules "$work/cache"
  holder=$(docker create --network none --volume "$tree:/narwhal/src:ro" --workdir /narwhal/src "$base" sh -uc "$warm_up")
  tar -C "$work/cache" --owner=0 --group=0 --transform 's,^\.,./go/pkg/mod,' -c . | docker cp - "$holder:/"
  docker start --attach "$holder" >&2 || die "the build cache could not be made"
  commit "$image" "$content" 'CMD ["/bin/bash"]' 'WORKDIR /narwhal/src'
}

[ $# -gt 0 ] || set -- all
for want in "$@"; do
  case $want in
    busybox | debian | go) "${want}_image" ;;
    all)
      busybox_image
      debian_image
      go_image
      ;;
    *) die "unknown: $want; usage: scripts/images.sh [busybox] [debian] [go] [all]" ;;
  esac
done
