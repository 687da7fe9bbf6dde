#!/usr/bin/env bash
# usage: scripts/rabbitmq.sh start|stop|kill DIR PORT
#
#   start   a private RabbitMQ whose files all lie in DIR, on 127.0.0.1:PORT; prints its URL when it takes
#           connections. Starting one that runs prints the URL again. DIR keeps the queues, so a start after a
#           stop or a kill goes on with them; PORT is part of the node's name and must stay the same.
#   stop    ends it in order (SIGTERM) and waits until it has ended
#   kill    ends it at once (SIGKILL), for tests of what a broker's death does
#
# Several can run side by side: each has its own node name, ports and epmd, all on loopback, and a cookie of its
# own. Deadlines: 60 s to start, 30 s to stop. The log is DIR/rabbit.log.
set -eu

say() { printf 'rabbitmq: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

[ $# = 3 ] || { [ "${1-}" = ctl ] && [ $# -gt 3 ]; } || die "usage: scripts/rabbitmq.sh start|stop|kill DIR PORT, or ctl DIR PORT COMMAND…"
action=$1
port=$3
case $port in '' | *[!0-9]*) die "PORT must be a number, not $port" ;; esac
mkdir -p "$2"
dir=$(cd "$2" && pwd)
server=/usr/lib/rabbitmq/bin/rabbitmq-server

# alive NAME tells whether the process of DIR/NAME.pid runs and is still the one that was started: a number can
# be given to another process once its owner has ended.
alive() {
  local pid
  pid=$(cat "$dir/$1.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
  { tr "\0" "\n" <"/proc/$pid/environ"; } 2>/dev/null | grep -qxF "NARWHAL_RABBITMQ=$dir"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port prints a port that nobody listens on, below those that the kernel hands out by itself.
free_port() {
  local try
  for try in $(seq 50); do
    try=$((11000 + RANDOM % 20000))
    listens "$try" || { echo "$try"; return; }
  done
  die "found no free port in 50 tries"
}

# greets tells whether a broker answers the protocol's first eight bytes; an open port alone may be a broker that
# is still starting, or no broker.
greets() {
  local first
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
  printf 'AMQP\0\0\11\1' >&3
  # The answer is a method frame, whose first byte is 1.
  IFS= read -r -N 1 -t 5 first <&3 || first=""
  exec 3>&-
  [ "$first" = $'\1' ]
}

start_epmd() {
  # In the foreground and ours to end; the broker would leave a daemon of its own behind.
  epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 >"$dir/epmd.log" 2>&1 </dev/null &
  echo $! >"$dir/epmd.pid"
  local deadline=$((SECONDS + 10))
  until listens "$ERL_EPMD_PORT"; do
    [ "$SECONDS" -lt "$deadline" ] || die "epmd does not listen on $ERL_EPMD_PORT: $(cat "$dir/epmd.log")"
    sleep 0.05
  done
}

start_broker() {
  mkdir -p "$dir/data" "$dir/log"
  : >"$dir/rabbitmq.conf"
  echo '[].' >"$dir/enabled_plugins"
  export HOME=$dir
  export RABBITMQ_NODENAME=narwhal-$port@localhost
  export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT=$port
  export RABBITMQ_DIST_PORT=$1
  export RABBITMQ_MNESIA_BASE=$dir/data RABBITMQ_LOG_BASE=$dir/log RABBITMQ_LOGS=-
  export RABBITMQ_CONFIG_FILE=$dir/rabbitmq RABBITMQ_ENABLED_PLUGINS_FILE=$dir/enabled_plugins
  # Debian's own environment file sets names and paths of the system's broker.
  export RABBITMQ_CONF_ENV_FILE=/dev/null
  # With this the script becomes the Erlang machine instead of waiting for it, so that $! is the broker and
  # SIGKILL ends it and not just its parent.
  export RABBITMQ_ALLOW_INPUT=1 RABBITMQ_SERVER_START_ARGS=-noinput
  # Schedulers that spin while they wait would take the cores from the tests.
  export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
  setsid "$server" >>"$dir/rabbit.log" 2>&1 </dev/null &
  echo $! >"$dir/rabbit.pid"
}

start() {
  [ -x "$server" ] || die "RabbitMQ is not installed; run: scripts/deps.sh rabbitmq"
  if ! alive rabbit; then
    ! listens "$port" || die "something else listens on 127.0.0.1:$port"
    end epmd KILL # left by a broker that died by itself
    export NARWHAL_RABBITMQ=$dir
    ERL_EPMD_PORT=$(free_port)
    export ERL_EPMD_PORT ERL_EPMD_ADDRESS=127.0.0.1
    echo "$ERL_EPMD_PORT" >"$dir/epmd.port"
    start_epmd
    start_broker "$(free_port)"
  fi
  local deadline=$((SECONDS + 60))
  until greets 2>/dev/null; do
    kill -0 "$(cat "$dir/rabbit.pid")" 2>/dev/null || { tail -n 20 "$dir/rabbit.log" >&2; end epmd KILL; die "the broker ended; its log is $dir/rabbit.log"; }
    [ "$SECONDS" -lt "$deadline" ] || die "the broker took no connection within 60 s; its log is $dir/rabbit.log"
    sleep 0.1
  done
  echo "amqp://guest:guest@127.0.0.1:$port/"
}

# end NAME SIGNAL ends the process of DIR/NAME.pid and waits until it has ended.
end() {
  local deadline=$((SECONDS + 30))
  if alive "$1"; then
    kill "-$2" "$(cat "$dir/$1.pid")" 2>/dev/null || true
    while alive "$1"; do
      [ "$SECONDS" -lt "$deadline" ] || die "$1 (pid $(cat "$dir/$1.pid")) has not ended 30 s after SIG$2"
      sleep 0.05
    done
  fi
  rm -f "$dir/$1.pid"
}

# closed waits until nothing listens on the broker's port: the threads of a process that was killed end one after the
# other, and the last of them closes it.
closed() {
  local deadline=$((SECONDS + 30))
  while listens "$port"; do
    [ "$SECONDS" -lt "$deadline" ] || die "something listens on 127.0.0.1:$port 30 s after the broker has ended"
    sleep 0.05
  done
}

case $action in
  start) start ;;
  stop)
    end rabbit TERM
    closed
    end epmd TERM
    ;;
  kill)
    end rabbit KILL
    closed
    end epmd KILL
    ;;
  ctl)
    shift 3
    ERL_EPMD_PORT=$(cat "$dir/epmd.port")
    export ERL_EPMD_PORT HOME=$dir RABBITMQ_CONF_ENV_FILE=/dev/null
    exec /usr/lib/rabbitmq/bin/rabbitmqctl --quiet --node "narwhal-$port@localhost" "$@"
    ;;
  *) die "unknown action $action; it is start, stop, kill or ctl" ;;
esac
