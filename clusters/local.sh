#!/usr/bin/env bash
# A Ray cluster of this machine alone: reached over loopback only, and only with its token.
#
#   clusters/local.sh [start] [CPUS]   start it; CPUS: CPU cores it may use, by default all
#   clusters/local.sh stop             stop it, with whatever runs on it
#
# RAY_PORT (6379) and DASHBOARD_PORT (8265) choose other ports, so that several can run; RAY_TEMP_DIR
# (Ray's own, /tmp/ray) another folder for its logs. Give stop the same RAY_PORT as start.
set -euo pipefail

ray_port=${RAY_PORT:-6379}
dashboard_port=${DASHBOARD_PORT:-8265}
address=http://127.0.0.1:$dashboard_port
state=${TMPDIR:-/tmp}/hft-ray-local-$(id -u)-$ray_port
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Jobs take over this PATH: they find hft-ray in the project's environment, if it is installed there.
if [[ -x $repository/.venv/bin/ray ]]; then PATH=$repository/.venv/bin:$PATH; fi

main() {
  case ${1:-start} in
    start) start "${2:-}" ;;
    stop) stop ;;
    -h | --help) sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//; p;}' "${BASH_SOURCE[0]}" ;;
    *[!0-9]*) fail "give start, stop or a number of CPU cores, not '$1'" ;;
    *) start "$1" ;;
  esac
}

fail() {
  echo "clusters/local.sh: $1" >&2
  exit "${2:-2}"
}

start() {
  [[ $1 != *[!0-9]* && $1 != 0 ]] || fail "the number of CPU cores must be a whole number, not '$1'"
  command -v ray >/dev/null || fail "no ray on the PATH; run 'make install' first"
  ! running || fail "a cluster runs on port $ray_port already; clusters/local.sh stop ends it"
  ! listening || fail "port $dashboard_port is taken; choose another: DASHBOARD_PORT=8266 $0"
  export RAY_AUTH_MODE=token
  # Ray takes 127.0.0.1 for "find my address" and listens on every interface, except where it thinks
  # that a machine is no cluster. Jobs inherit this, and so look for the cluster on loopback too.
  export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
  # `ray job stop` kills after 3 seconds otherwise; a sweep may need longer to close its books.
  export RAY_JOB_STOP_WAIT_TIME_S=30
  # There is nobody to hand work over to when it stops.
  export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
  (umask 077; ray get-auth-token --generate >/dev/null)

  local options=(
    --head --block --disable-usage-stats
    --node-ip-address 127.0.0.1 --port "$ray_port"
    --dashboard-host 127.0.0.1 --dashboard-port "$dashboard_port"
    # Fixed by default, which would clash with a second cluster.
    --dashboard-agent-listen-port 0 --ray-client-server-port $((ray_port + 1))
    --min-worker-port 0 --max-worker-port 0
  )
  if [[ -n $1 ]]; then options+=(--num-cpus "$1"); fi
  if [[ -n ${RAY_TEMP_DIR:-} ]]; then options+=(--temp-dir "$RAY_TEMP_DIR"); fi
  # Job control gives it a process group of its own: Ctrl-C here does not reach it.
  : >"$state.log"
  set -m
  nohup ray start "${options[@]}" >"$state.log" 2>&1 </dev/null &
  set +m
  echo $! >"$state.pid"
  wait_until_ready

  cat <<EOF
A Ray cluster runs on this machine; its dashboard and jobs: $address
submit: export RAY_AUTH_MODE=token
        ray job submit --address $address --working-dir . -- hft-ray tune FILE
stop:   ${RAY_PORT:+RAY_PORT=$ray_port }clusters/local.sh stop
EOF
}

wait_until_ready() {
  local deadline=$((SECONDS + 120))
  until grep -q 'Ray runtime started' "$state.log" && listening; do
    if ! running || ((SECONDS > deadline)); then
      cat "$state.log" >&2
      stop >/dev/null
      fail "the cluster did not start" 1
    fi
    sleep 0.5
  done
}

stop() {
  if ! running; then
    rm -f "$state.pid"
    echo "No cluster of clusters/local.sh runs on port $ray_port."
    return
  fi
  local pid
  pid=$(<"$state.pid")
  # `ray stop` would end every Ray process of this machine; this ends the cluster started here.
  kill -TERM "$pid"
  local deadline=$((SECONDS + 30))
  while running && ((SECONDS < deadline)); do sleep 0.2; done
  kill -KILL -- "-$pid" 2>/dev/null || true
  rm -f "$state.pid" "$state.log"
  echo "Stopped the cluster on port $ray_port."
}

# Whether the process that start left behind lives, and not another that got its number.
running() {
  [[ -f $state.pid ]] && ps -o command= -p "$(<"$state.pid")" 2>/dev/null | grep -q 'ray start'
}

listening() {
  (exec 3<>"/dev/tcp/127.0.0.1/$dashboard_port") 2>/dev/null
}

main "$@"
