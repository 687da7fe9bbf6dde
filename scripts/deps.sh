#!/usr/bin/env bash
# usage: scripts/deps.sh [git] [cc] [docker] [busybox] [rabbitmq] [debootstrap] [chromium] [shellcheck] [vagrant]
#
# Installs what is missing on a bare Debian 12 and starts a Docker engine where none answers. Without
# arguments: what the tests and the demo need (all but shellcheck and vagrant). Quick when all is there,
# and then it needs no root.
#
#   git          git and the CA certificates that https remotes need
#   cc           gcc, libc6-dev and make: go test -race links with C
#   docker       an engine that answers; one that already does, wherever DOCKER_HOST points, is left alone
#   busybox      the static busybox that the test images are made of
#   rabbitmq     the broker's program only: the service that the package brings stays off
#   chromium     a browser for the tests of the web pages, with a font
#   debootstrap, shellcheck, vagrant   as Debian has them
set -eu

say() { printf 'deps: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
systemd_runs() { [ -d /run/systemd/system ]; }
root_or_die() { [ "$(id -u)" = 0 ] || die "$1 needs root; run: sudo $0 $2"; }

lists_are_fresh() {
  [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mmin -1440 -print -quit 2>/dev/null)" ]
}

update() { say "apt-get update"; apt-get -qq -o DPkg::Lock::Timeout=300 update; }

# install WHAT PACKAGE… asks apt. Package lists that are a day old may name files that the mirror has no more,
# so a failed installation is tried again once with new ones.
install() {
  local what=$1 fresh=1
  shift
  root_or_die "installing $*" "$what"
  export DEBIAN_FRONTEND=noninteractive
  lists_are_fresh || { update; fresh=0; }
  say "installing $*"
  local log=/var/log/narwhal-deps.log apt
  apt=(apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install "$@")
  "${apt[@]}" >>"$log" 2>&1 </dev/null && return
  if [ "$fresh" = 1 ]; then
    update
    "${apt[@]}" >>"$log" 2>&1 </dev/null && return
  fi
  tail -n 15 "$log" >&2
  die "apt could not install $*; its log is $log"
}

git_deps() {
  if ! have git || [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then install git git ca-certificates; fi
}

cc_deps() {
  if ! have gcc || ! have make || [ ! -e /usr/include/stdlib.h ]; then install cc gcc libc6-dev make; fi
}

busybox_deps() {
  # The package busybox has the same path and is linked dynamically; only the static one runs in an empty image.
  [ "$(dpkg-query -Wf '${db:Status-Status}' busybox-static 2>/dev/null || true)" = installed ] || install busybox busybox-static
}

engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

docker_deps() {
  # The tests of an engine that dies, and those of nodes that don't reach each other, give theirs network
  # namespaces of their own, and cut the roads between them.
  if ! have ip || ! have iptables; then install docker iproute2 iptables; fi
  if have docker && engine_answers; then return; fi
  [ -z "${DOCKER_HOST:-}" ] || die "DOCKER_HOST is $DOCKER_HOST and no engine answers there; start it or unset DOCKER_HOST"
  if ! have docker || ! have dockerd; then install docker docker.io; fi
  engine_answers || start_engine
  say "Docker engine $(docker version --format '{{.Server.Version}}') answers"
}

# The package starts the engine itself, but not where /usr/sbin/policy-rc.d forbids it (as images of containers
# do), and not where there is no systemd to ask.
start_engine() {
  root_or_die "starting a Docker engine" docker
  local log=/var/log/narwhal-dockerd.log pid=""
  if systemd_runs; then
    systemctl enable --now docker >&2 || die "systemd could not start docker; see: journalctl -u docker"
  else
    forget_dead_engine
    say "starting dockerd, log in $log"
    # In a session of its own, so that the engine outlives the terminal and the make that called this.
    # shellcheck disable=SC2046 # engine_flags prints words
    setsid dockerd $(engine_flags) >>"$log" 2>&1 </dev/null &
    pid=$!
  fi
  local deadline=$((SECONDS + 60))
  until engine_answers; do
    if [ -n "$pid" ] && ! kill -0 "$pid" 2>/dev/null; then tail -n 15 "$log" >&2; die "dockerd ended; its log is $log"; fi
    [ "$SECONDS" -lt "$deadline" ] || die "no Docker engine answers after 60 s"
    sleep 0.2
  done
}

# engine_flags keeps a dockerd that is only here for tests away from the host's firewall and routing. A flag
# that daemon.json sets too would make dockerd refuse to start, so what the operator has written there wins.
engine_flags() {
  local key
  for key in iptables ip6tables ip-forward; do
    grep -qs "\"$key\"" /etc/docker/daemon.json || echo "--$key=false"
  done
}

# A dockerd that was killed leaves its pid files, and a later one refuses to start when some other process has
# got one of these numbers since.
forget_dead_engine() {
  local file pid
  for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
    [ -e "$file" ] || continue
    pid=$(cat "$file")
    # A zombie has no program any more, though its number is taken.
    case $(readlink "/proc/$pid/exe" 2>/dev/null || true) in
      */dockerd | */containerd) ;;
      *) rm -f "$file" ;;
    esac
  done
}

# Debian's rabbitmq-server starts a broker on all addresses, and its scripts leave an epmd behind. The tests
# start brokers of their own on loopback (scripts/rabbitmq.sh), so the service is kept from starting, now and
# at the next boot.
rabbitmq_deps() {
  [ ! -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || return 0
  root_or_die "installing rabbitmq-server" rabbitmq
  local epmd_before=0 policy=""
  { have epmd && epmd -names >/dev/null 2>&1; } && epmd_before=1
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    # Removed on the way out however that comes, or no package could start its service any more.
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  install rabbitmq rabbitmq-server
  if [ -n "$policy" ]; then rm -f "$policy"; trap - EXIT; fi
  if systemd_runs; then systemctl disable --quiet rabbitmq-server epmd.service epmd.socket 2>/dev/null || true; fi
  # epmd refuses to end while a node is registered with it, so this cannot hurt somebody else's broker.
  [ "$epmd_before" = 1 ] || epmd -kill >/dev/null 2>&1 || true
}

# Without a font there would be no text to look at.
chromium_deps() {
  if ! have chromium || ! [ -d /usr/share/fonts/truetype/dejavu ]; then install chromium chromium fonts-dejavu-core; fi
}

program_deps() { have "$1" || [ -x "/usr/sbin/$1" ] || install "$1" "$1"; }

# One installer at a time: make starts several scripts that each ask for what they need.
if [ "$(id -u)" = 0 ]; then
  exec 9>/run/narwhal-deps.lock
  flock -w 900 9 || die "another deps.sh has run for 15 minutes"
fi

[ $# -gt 0 ] || set -- git cc docker busybox rabbitmq debootstrap chromium
for want in "$@"; do
  case $want in
    git | cc | busybox | docker | rabbitmq | chromium) "${want}_deps" 9>&- ;;
    debootstrap | shellcheck | vagrant) program_deps "$want" 9>&- ;;
    *) die "unknown: $want; usage: scripts/deps.sh [git] [cc] [busybox] [docker] [rabbitmq] [debootstrap] [chromium] [shellcheck] [vagrant]" ;;
  esac
done
