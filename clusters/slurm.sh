#!/usr/bin/env bash
# A sweep as a Slurm job: a Ray cluster on the nodes of the job, for as long as the sweep runs.
#
#   export HFT_RAY_HOME=/shared/hft-ray        # a folder that all nodes see
#   sbatch --nodes=4 --gpus-per-node=4 clusters/slurm.sh FILE [options of hft-ray tune]
#   hft-ray status NAME --watch                # from the login node
#
# Shortly before its time is up, and when it is preempted, the sweep ends in order and the job queues
# itself again: the same command goes on. `hft-ray stop NAME` ends it for good, as does scancel.
#SBATCH --job-name=hft-ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail

fail() {
  echo "clusters/slurm.sh: $1" >&2
  exit 2
}

[[ $# -gt 0 ]] || fail "give FILE: sbatch clusters/slurm.sh FILE"
[[ -n ${SLURM_JOB_ID:-} ]] || fail "runs inside a Slurm job: sbatch clusters/slurm.sh $1"
[[ -n ${HFT_RAY_HOME:-} ]] || fail "set HFT_RAY_HOME to a folder that all nodes see"
repository=$(cd "${SLURM_SUBMIT_DIR:-.}" && pwd)
if [[ -x $repository/.venv/bin/ray ]]; then PATH=$repository/.venv/bin:$PATH; fi
command -v ray >/dev/null || fail "no ray on the PATH of the nodes"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
if [[ ${#nodes[@]} -eq 1 ]]; then
  # Ray takes 127.0.0.1 for "find my address", except where it thinks that a machine is no cluster.
  export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
  address=127.0.0.1
else
  # This script runs on the first node. Of several addresses, the first.
  address=$(hostname --ip-address | cut -d ' ' -f 1)
fi
# In the home folder, which the nodes share; only its owner reads it.
(umask 077; ray get-auth-token --generate >/dev/null)

on_nodes() { srun --overlap --ntasks-per-node=1 "$@"; }

on_nodes --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --block --node-ip-address "$address" --port "$port" \
  --dashboard-host 127.0.0.1 --dashboard-port $((port + 10000)) \
  --dashboard-agent-listen-port 0 --ray-client-server-port $((port + 20000)) \
  --min-worker-port 0 --max-worker-port 0 \
  --num-cpus "${SLURM_CPUS_ON_NODE:-$(nproc)}" &
steps=($!)
trap 'kill "${steps[@]}" 2>/dev/null || true; wait' EXIT
if [[ ${#nodes[@]} -gt 1 ]]; then
  others=$((${#nodes[@]} - 1))
  on_nodes --nodes="$others" --ntasks="$others" --exclude="$head" \
    ray start --block --address "$address:$port" --num-cpus "${SLURM_CPUS_ON_NODE:-$(nproc)}" &
  steps+=($!)
fi

# hft-ray refuses what does not fit, so all nodes have to be there first.
python - "$address:$port" "${#nodes[@]}" <<'PYTHON' &
import sys
import time

import ray

deadline = time.monotonic() + 300
while True:
    try:
        ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
        if sum(node["Alive"] for node in ray.nodes()) >= int(sys.argv[2]):
            break
        ray.shutdown()
    except ConnectionError:
        pass
    if time.monotonic() > deadline:
        sys.exit("clusters/slurm.sh: not all nodes joined the Ray cluster within 5 minutes")
    time.sleep(2)
PYTHON
joining=$!
while kill -0 "$joining" 2>/dev/null; do
  if ! kill -0 "${steps[0]}" 2>/dev/null; then
    echo "clusters/slurm.sh: Ray on the first node has ended; its output is above" >&2
    kill "$joining" 2>/dev/null || true
    exit 1
  fi
  sleep 0.2
done
wait "$joining"

again=no sweep=
# USR1: time is nearly up. TERM: the job is preempted, or cancelled.
trap 'again=yes; [[ -z $sweep ]] || kill -TERM "$sweep"' USR1 TERM
RAY_ADDRESS=$address:$port hft-ray tune "$@" &
sweep=$!
[[ $again == no ]] || kill -TERM "$sweep"  # the signal came before the sweep had a number
# A signal ends `wait`, not the sweep.
code=0
wait "$sweep" || code=$?
while kill -0 "$sweep" 2>/dev/null; do code=0; wait "$sweep" || code=$?; done
# A job that was cancelled, or that Slurm itself queues again, does not count as running any more.
state=$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T) || state=unknown
if [[ $code -eq 130 && $again == yes && $state == RUNNING ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
