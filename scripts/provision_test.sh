#!/usr/bin/env bash
# usage: scripts/provision_test.sh
#
# Runs provision.sh for real in three containers that stand for three hosts of a LAN, with nothing in them but a
# small Debian: the first founds a cluster, two join it, a build is pushed to one and passes, the founder is
# killed and the others go on. The binary is $NARWHAL_BINARY, or built from this checkout. At most five minutes.
set -eu

say() { printf 'provision_test: %s\n' "$*" >&2; }
die() { say "FAILED: $*"; exit 1; }

# The whole run has a limit of its own: a hanging command must not hold up what called this.
if [ -z "${NARWHAL_PROVISION_LIMIT:-}" ]; then
  NARWHAL_PROVISION_LIMIT=1 exec timeout --foreground --kill-after=30 300 "$0" "$@"
fi

tree=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
network=""
containers=()
declare -A id ip

clean_up() {
  local status=$? host
  if [ "$status" != 0 ]; then
    for host in "${!id[@]}"; do
      say "the log of $host:"
      docker exec "${id[$host]}" tail -n 15 /var/log/narwhal.log >&2 2>/dev/null || say "it has none"
    done
  fi
  [ ${#containers[@]} = 0 ] || docker rm -f -v "${containers[@]}" >/dev/null 2>&1 || true
  [ -z "$network" ] || docker network rm "$network" >/dev/null 2>&1 || true
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# on HOST COMMAND… runs a command as root on the host.
on() {
  local host=$1
  shift
  docker exec -i "${id[$host]}" "$@"
}

provision() {
  local host=$1
  shift
  say "$host: provision.sh $*"
  on "$host" /opt/narwhal/scripts/provision.sh --no-docker --binary /opt/narwhal/bin/narwhal --name "$host" \
    --address "${ip[$host]}" "$@"
}

# narwhal HOST ARGUMENT… runs the CLI there, which finds the node and its token in the data directory.
narwhal() {
  local host=$1
  shift
  docker exec -i --env NARWHAL_DATA_DIR=/var/lib/narwhal "${id[$host]}" narwhal "$@"
}

# eventually SECONDS WHAT COMMAND… tries a command until it succeeds.
eventually() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || die "$what"
    sleep 0.3
  done
}

sees_all() { local out; out=$(narwhal "$1" nodes --json 2>/dev/null) && [[ $out == *host1* && $out == *host2* && $out == *host3* ]]; }
has_leader() { narwhal "$1" status --json >/dev/null 2>&1; }
# three_voters: before that the founder's death could be the death of the only majority.
voters() { narwhal "$1" nodes --json 2>/dev/null | grep -oE '"role": *"voter"' | wc -l; }
three_voters() { [ "$(voters "$1")" = 3 ]; }
# builds_passed HOST N: N builds have passed, as that host sees it.
builds_passed() { [ "$(narwhal "$1" builds --json 2>/dev/null | grep -oiE '"(status|state)": *"passed"' | wc -l)" -ge "$2" ]; }

make_hosts() {
  local host
  network=$(docker network create "narwhal-provision-$$")
  for host in host1 host2 host3; do
    # No capability beyond the usual ones: what the script needs more of, it must do without.
    id[$host]=$(docker run --detach --init --network "$network" --hostname "$host" --label narwhal.test=provision \
      --volume "$tree/scripts:/opt/narwhal/scripts:ro" --volume "$work/bin:/opt/narwhal/bin:ro" \
      narwhal/debian:local sleep infinity)
    containers+=("${id[$host]}")
    ip[$host]=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "${id[$host]}")
  done
}

# push HOST makes a repository there and has its only commit built.
# shellcheck disable=SC2016 # for the host's shell
push() {
  on "$1" bash -euc '
    rm -rf /srv/repo && mkdir -p /srv/repo && cd /srv/repo
    printf "name: hello\nsteps:\n  - name: greet\n    command: echo hello from \$NARWHAL_NODE\n" >narwhal.yml
    date +%N >salt
    git init -q && git add . && git -c user.name=t -c user.email=t@localhost commit -qm first
    NARWHAL_DATA_DIR=/var/lib/narwhal narwhal push' >&2
}

"$tree/scripts/images.sh" debian
mkdir "$work/bin"
if [ -z "${NARWHAL_BINARY:-}" ]; then
  say "building narwhal"
  (cd "$tree" && CGO_ENABLED=0 go build -tags disable_grpc_modules -o "$work/bin/narwhal" ./cmd/narwhal)
else
  cp "$NARWHAL_BINARY" "$work/bin/narwhal"
fi
chmod -R a+rX "$work"
make_hosts
started=$SECONDS

provision host1 || die "the founder was not provisioned"
token=$(on host1 cat /var/lib/narwhal/join-token)
[ "$(on host1 stat -c %a /var/lib/narwhal/join-token)" = 600 ] || die "others can read the join token"

! provision host2 --join "${ip[host1]}" 2>"$work/refused" || die "provision.sh took --join without a token"
grep -q -- --token "$work/refused" || die "the refusal does not tell of --token: $(cat "$work/refused")"

for host in host2 host3; do
  on "$host" sh -c 'umask 077 && cat >/root/token' <<<"$token"
  provision "$host" --join "${ip[host1]}" --token-file /root/token --label "disk=ssd" || die "$host was not provisioned"
  ! on "$host" grep -rqF "$token" /etc/narwhal || die "$host keeps the join token after it has joined"
done
for host in host1 host2 host3; do
  eventually 30 "$host does not see three nodes" sees_all "$host"
  pid=$(on "$host" cat /run/narwhal.pid)
  [ "$(on "$host" stat -c %U "/proc/$pid")" = narwhal ] || die "$host runs steps as root"
done
say "three nodes after $((SECONDS - started)) s"

pid=$(on host2 cat /run/narwhal.pid)
provision host2 --join "${ip[host1]}" --token-file /root/token --label "disk=ssd" || die "the second run failed"
[ "$(on host2 cat /run/narwhal.pid)" = "$pid" ] || die "a second run with nothing new started the node again"

push host2 || die "narwhal push failed"
eventually 30 "no build has passed" builds_passed host3 1

eventually 40 "the founder's log is not on three nodes" three_voters host1
say "killing host1"
docker kill "${id[host1]}" >/dev/null
unset 'id[host1]'
eventually 20 "no leader after the founder's death" has_leader host2
push host3 || die "narwhal push failed after the founder's death"
eventually 40 "no build has passed after the founder's death" builds_passed host2 2
say "ok: founded, joined, provisioned twice, built, and went on without the founder, in $((SECONDS - started)) s"
