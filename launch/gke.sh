#!/usr/bin/env bash
# Starts one training run on TPUs of a GKE cluster with xpk (pip install xpk):
#
#   export CLUSTER=tpus ZONE=us-central1-a TYPE=v5litepod-16
#   launch/gke.sh run1 --config=configs/fixmatch.py --workdir=/mnt/shared/run1
#
# run1 is the name of the workload. /mnt/shared is a volume (Filestore, for example) that
# you attached to the cluster with
#   xpk storage attach ... --mount-point=/mnt/shared --auto-mount=true
set -euo pipefail

: "${CLUSTER:?name of the cluster}" "${ZONE:?its zone}" "${TYPE:?e.g. v5litepod-16}"
name=${1:?name of the workload}
shift
cd "$(dirname "$0")/.."

arguments=$(printf ' %q' "$@" --config.distributed=true)
# A pod that is moved gets SIGTERM, has 180 s to save, and exits with 143. xpk restarts on
# 42 and on 127 to 255, which includes 143 and a kill, but not 2, a user error. Thanks to
# exec, the signal reaches Python rather than a shell around it.
xpk workload create --cluster="$CLUSTER" --zone="$ZONE" --workload="$name" \
  --tpu-type="$TYPE" --num-slices="${SLICES:-1}" \
  --base-docker-image=python:3.12 --script-dir=. \
  --max-restarts=100 --termination-grace-period-seconds=180 \
  --command="pip install -q -e '.[tpu]' && exec python -m ssljax.main$arguments"
