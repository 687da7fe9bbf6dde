#!/usr/bin/env bash
# usage: scripts/provision.sh [--binary PATH] [--no-docker] [--join HOST (--token T | --token-file F)]
#                             [--amqp URL] [--name N] [--label k=v]… [--address IP]
#        scripts/provision.sh --broker --amqp amqp://USER:PASSWORD@ADDRESS:PORT/
#
# Makes this Debian host a node of a narwhal cluster; run it as root. Without --join the host founds a cluster,
# with --join it becomes part of HOST's. Running it again changes only what differs, and is how a node is
# upgraded: its jobs run on while the narwhal process is replaced.
#
#   --binary PATH   the narwhal binary (static); without it, one is built from this checkout, for which Go is needed
#   --no-docker     run steps as processes of the user narwhal instead of in containers: no isolation
#   --token-file F  reads the token from F, so that it stands in no history; a founder keeps its own in
#                   /var/lib/narwhal/join-token
#   --amqp URL      take commits from this RabbitMQ too
#   --address IP    the address that the other nodes reach this one at, for hosts that have several
#   --broker        no node: make this host the RabbitMQ that URL tells of
#
# Who the daemon is. With Docker it is root: whoever may speak to the engine is root by that already, and a
# group would only hide it, while the files that jobs leave behind belong to their containers' root and have to
# be removed. Without Docker the steps of a job run as the daemon's own user, so that must not be root: it is
# the system user narwhal, whose files are the node's and nothing else.
set -eu

say() { printf 'provision: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
data=/var/lib/narwhal
config=/etc/narwhal
program=/usr/local/bin/narwhal
unit=/etc/systemd/system/narwhal.service
pid_file=/run/narwhal.pid
log_file=/var/log/narwhal.log
changed=0 # whether something that the running process was started with has changed
binary="" docker=1 join="" token="" amqp="" name="" address="" broker=0 labels=()

systemd_runs() { [ -d /run/systemd/system ]; }

# plain VALUE refuses what the environment file could not carry: systemd and sh read it by different rules.
plain() {
  case $2 in
    '' | *[!A-Za-z0-9._:/@%=+,~?\&*!\[\]-]*) die "$1 is empty or has a character that cannot stand in $config/narwhal.env" ;;
  esac
}

read_arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      --no-docker) docker=0 ;;
      --broker) broker=1 ;;
      --binary | --join | --token | --token-file | --amqp | --name | --label | --address)
        [ $# -ge 2 ] || die "$1 needs a value"
        argument "$1" "$2"
        shift
        ;;
      *) die "unknown argument $1; the usage stands at the top of $0" ;;
    esac
    shift
  done
  [ "$(id -u)" = 0 ] || die "run this as root"
  [ "$broker" = 0 ] || [ -n "$amqp" ] || die "--broker needs --amqp amqp://USER:PASSWORD@ADDRESS:PORT/"
  [ -z "$join" ] || [ -n "$token" ] || joined || die "--join needs --token or --token-file; the founder keeps its token in $data/join-token"
  [ -n "$join" ] || [ -z "$token" ] || die "--token goes with --join HOST"
}

argument() {
  case $1 in
    --binary) binary=$2 ;;
    --token-file)
      [ -s "$2" ] || die "there is no token in $2"
      token=$(tr -d '[:space:]' <"$2")
      ;;
    --label)
      plain "$1" "$2"
      case $2 in ?*=*) labels+=("$2") ;; *) die "--label is k=v, not $2" ;; esac
      ;;
    *)
      plain "$1" "$2"
      printf -v "${1#--}" %s "$2"
      ;;
  esac
}

# joined tells whether this host is a node already; then its data directory decides, and no token is asked for.
joined() { [ -n "$(find "$data" -maxdepth 2 -name identity.json -print -quit 2>/dev/null)" ]; }

# put FILE MODE writes standard input to FILE unless it holds just that.
put() {
  local new
  new=$(mktemp "$1.XXXXXX")
  cat >"$new"
  chmod "$2" "$new"
  if cmp -s "$new" "$1"; then rm -f "$new"; return; fi
  mv "$new" "$1"
  changed=1
}

install_binary() {
  if [ -z "$binary" ]; then
    command -v go >/dev/null || die "no Go here to build narwhal with; name a binary with --binary PATH"
    say "building narwhal from $(dirname "$here")"
    (cd "$here/.." && CGO_ENABLED=0 go build -tags disable_grpc_modules -o bin/narwhal ./cmd/narwhal)
    binary=$here/../bin/narwhal
  fi
  [ -f "$binary" ] || die "there is no file $binary"
  install -m 755 "$binary" "$program.new"
  "$program.new" version >/dev/null || { rm -f "$program.new"; die "$binary does not run here; is it built for this architecture?"; }
  # put renames into place: the running process has the old file open, which cannot be written to.
  put "$program" 755 <"$program.new"
  rm -f "$program.new"
}

make_user_and_folders() {
  local owner=root
  if [ "$docker" = 0 ]; then
    owner=narwhal
    id narwhal >/dev/null 2>&1 || useradd --system --home-dir "$data" --no-create-home --shell /usr/sbin/nologin narwhal
  fi
  # The folder holds the cluster's keys and the join token.
  install -d -m 700 "$data"
  if [ "$(stat -c %U "$data")" != "$owner" ]; then chown -R "$owner:$owner" "$data"; fi
  install -d -m 755 "$config"
  touch "$log_file"
  chmod 640 "$log_file"
  chown "$owner" "$log_file"
}

# write_configuration writes the node's flags, and what is secret to files of their own: arguments and environments
# can be read by others. The token is only kept until the node has joined.
write_configuration() {
  local args="--executor docker" label
  [ "$docker" = 1 ] || args="--executor process"
  [ -z "$address" ] || args+=" --cluster-listen $address:9898 --api-advertise $address:9797"
  [ -z "$name" ] || args+=" --name $name"
  for label in "${labels[@]+"${labels[@]}"}"; do args+=" --label $label"; done
  if [ -n "$amqp" ]; then
    secret amqp-url "$amqp"
    args+=" --amqp-file $config/amqp-url"
  fi
  [ -z "$join" ] || args+=" --join $join"
  if [ -n "$token" ] && ! joined; then
    secret join-token "$token"
    args+=" --token-file $config/join-token"
  else
    rm -f "$config/join-token"
  fi
  put "$config/narwhal.env" 644 <<TEXT
# Written by scripts/provision.sh, which replaces it. \`narwhal node --help\` tells what can stand here.
NARWHAL_ARGS="$args"
TEXT
}

secret() {
  put "$config/$1" 600 <<<"$2"
  chown "$(stat -c %U "$data")" "$config/$1"
}

start_with_systemd() {
  put "$unit" 644 <"$here/narwhal.service"
  mkdir -p "$unit.d"
  if [ "$docker" = 1 ]; then
    put "$unit.d/user.conf" 644 <<<'# scripts/provision.sh: the daemon is root, as the engine is'
  else
    put "$unit.d/user.conf" 644 <<<$'[Service]\nUser=narwhal\nGroup=narwhal\nCapabilityBoundingSet='
  fi
  systemctl daemon-reload
  systemctl enable --quiet narwhal
  if [ "$changed" = 1 ]; then systemctl restart narwhal; else systemctl start narwhal; fi
}

# start_by_hand is for containers and other hosts without systemd. Nothing starts the process again when it dies.
start_by_hand() {
  local NARWHAL_ARGS words=() nice=() user=()
  if [ "$changed" = 1 ]; then
    # Only the process, not its jobs: the one that is started next takes them over.
    start-stop-daemon --stop --quiet --oknodo --retry TERM/30/KILL/5 \
      --pidfile "$pid_file" --name narwhal
  fi
  # shellcheck source=/dev/null
  . "$config/narwhal.env"
  read -r -a words <<<"$NARWHAL_ARGS"
  # A container may not be allowed to raise a priority.
  [ "$(nice -n -5 nice 2>/dev/null)" != -5 ] || nice=(--nicelevel -5)
  [ "$docker" = 1 ] || user=(--chuid narwhal:narwhal)
  start-stop-daemon --start --quiet --oknodo --background --make-pidfile --pidfile "$pid_file" --name narwhal \
    --chdir "$data" --output "$log_file" ${nice[@]+"${nice[@]}"} ${user[@]+"${user[@]}"} --startas "$program" -- \
    node --data-dir "$data" "${words[@]}"
}

show_log() {
  if systemd_runs; then journalctl -u narwhal -n 20 --no-pager >&2; else tail -n 20 "$log_file" >&2; fi
}

runs() {
  if systemd_runs; then systemctl is-active --quiet narwhal; else start-stop-daemon --status --pidfile "$pid_file" --name narwhal; fi
}

# wait_until_ready waits until the node is part of a cluster that has a leader.
wait_until_ready() {
  local begin=$SECONDS deadline=$((SECONDS + 60))
  until NARWHAL_DATA_DIR=$data "$program" status --json >/dev/null 2>&1; do
    # In its first moments the process is still start-stop-daemon's.
    if ! runs && ! systemd_runs && [ $((SECONDS - begin)) -ge 3 ]; then show_log; die "narwhal ended; its log is $log_file"; fi
    [ "$SECONDS" -lt "$deadline" ] || { show_log; die "the node is not part of a cluster after 60 s"; }
    sleep 0.2
  done
}

provision_node() {
  if [ "$docker" = 1 ]; then "$here/deps.sh" git docker; else "$here/deps.sh" git; fi
  install_binary
  make_user_and_folders
  write_configuration
  if systemd_runs; then start_with_systemd; else start_by_hand; fi
  wait_until_ready
  write_configuration # without the token now; what runs need not be started again for that
  local host=${address:-$(hostname -I | cut -d' ' -f1)}
  say "the node runs: http://$host:9797/"
  [ -n "$join" ] || say "the next host: scripts/provision.sh --join $host --token-file F, where F holds what $data/join-token does"
}

# provision_broker makes the system's RabbitMQ listen on the URL's address, for its user alone.
provision_broker() {
  local rest=${amqp#amqp://} user password host port
  systemd_runs || die "--broker needs systemd; for tests there is scripts/rabbitmq.sh"
  user=${rest%%:*}
  rest=${rest#*:}
  password=${rest%%@*}
  rest=${rest#*@}
  host=${rest%%:*}
  port=${rest#*:}
  port=${port%%/*}
  [ "amqp://$user:$password@$host:$port/" = "$amqp" ] || die "--broker wants a URL like amqp://USER:PASSWORD@ADDRESS:PORT/"
  "$here/deps.sh" rabbitmq
  put /etc/rabbitmq/rabbitmq.conf 644 <<<"listeners.tcp.1 = $host:$port"
  # Only this host administers the broker, so what its nodes speak among themselves stays on loopback.
  put /etc/rabbitmq/rabbitmq-env.conf 644 <<'TEXT'
NODENAME=rabbit@localhost
SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
export ERL_EPMD_ADDRESS=127.0.0.1
TEXT
  mkdir -p /etc/systemd/system/epmd.socket.d
  put /etc/systemd/system/epmd.socket.d/loopback.conf 644 <<<$'[Socket]\nListenStream=\nListenStream=127.0.0.1:4369'
  systemctl enable --quiet rabbitmq-server
  if [ "$changed" = 1 ]; then
    systemctl daemon-reload
    systemctl stop rabbitmq-server epmd.service epmd.socket
  fi
  systemctl start rabbitmq-server
  rabbitmqctl --quiet await_startup --timeout 60
  # The password goes by standard input: arguments can be read by every user of the host.
  rabbitmqctl --quiet change_password "$user" <<<"$password" 2>/dev/null || rabbitmqctl --quiet add_user "$user" <<<"$password"
  rabbitmqctl --quiet set_permissions -p / "$user" '.*' '.*' '.*'
  rabbitmqctl --quiet delete_user guest >/dev/null 2>&1 || true
  say "RabbitMQ takes connections of $user at $host:$port"
}

read_arguments "$@"
if [ "$broker" = 1 ]; then provision_broker; else provision_node; fi
