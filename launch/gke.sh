#!/usr/bin/env bash
# Starts one training run on TPUs of a GKE cluster with xpk (pip install xpk):
#
#   export CLUSTER=tpus ZONE=us-central1-a TYPE=v5litepod-16
#   launch/gke.sh run1 --config=configs/fixmatch.py --workdir=/mnt/shared/run1
#
# run1 is the name of the workload. /mnt/shared is a volume (Filestore, for example).
# Attach it to the cluster first, with
#   xpk storage attach ... --mount-point=/mnt/shared --auto-mount=true
set -euo pipefail

: "${CLUSTER:?name of the cluster}" "${ZONE:?its zone}" "${TYPE:?e.g. v5litepod-16}"
name=${1:?name of the workload}
shift
cd "$(dirname "$0")/.."

arguments=$(printf ' %q' "$@" --config.distributed=true)
# Before a pod is moved, it gets SIGTERM, has 180 s to save, and exits with 143. xpk
# restarts a workload if it exits with 42 or with 127 to 255. This includes 143 and the
# code of a killed process, but not 2, a user error. Because of exec, the signal reaches
# Python and not a shell around it.
xpk workload create --cluster="$CLUSTER" --zone="$ZONE" --workload="$name" \
  --tpu-type="$TYPE" --num-slices="${SLICES:-1}" \
  --base-docker-image=python:3.12 --script-dir=. \
  --max-restarts=100 --termination-grace-period-seconds=180 \
  --command="pip install -q -e '.[tpu]' && exec python -m ssljax.main$arguments"
