#!/usr/bin/env bash
# Starts one training run on a Cloud TPU, on a single host or a slice of several hosts:
#
#   export TPU=ssljax ZONE=us-central1-a TYPE=v5litepod-16 VERSION=v2-alpha-tpuv5-lite
#   launch/tpu_vm.sh create [--spot]
#   launch/tpu_vm.sh install                # copies this checkout's HEAD to every host
#   launch/tpu_vm.sh run --config=configs/fixmatch.py --workdir=/mnt/shared/run1
#   launch/tpu_vm.sh stop                   # SIGTERM: saves, and `run` exits with 143
#   launch/tpu_vm.sh delete
#
# To continue a run, repeat `run` with the same arguments. The script requires gcloud with
# a project. With several hosts, --workdir and --config.data must be on a shared file
# system. If NFS=ADDRESS:/SHARE is set, `install` mounts that share (Filestore, for
# example) at /mnt/shared.
set -euo pipefail

: "${TPU:?name of the TPU}" "${ZONE:?its zone}"
cd "$(dirname "$0")/.."

everywhere() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

command=${1:?create, install, run, stop or delete}
shift
case "$command" in
  create)
    gcloud compute tpus tpu-vm create "$TPU" --zone="$ZONE" \
      --accelerator-type="${TYPE:?e.g. v5litepod-16}" \
      --version="${VERSION:?e.g. v2-alpha-tpuv5-lite}" "$@"
    ;;
  install)
    archive=$(mktemp -d)/ssljax.tar.gz
    git archive --format=tar.gz --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$TPU": --zone="$ZONE" --worker=all
    if [ -n "${NFS:-}" ]; then
      everywhere "sudo apt-get -qq install -y nfs-common && sudo mkdir -p /mnt/shared \
        && (mountpoint -q /mnt/shared || sudo mount -t nfs '$NFS' /mnt/shared) \
        && sudo chmod a+rwx /mnt/shared"
    fi
    # The image's Python may be too old, so uv installs a newer one. --seed adds pip;
    # ssljax uses it to download the encoder.
    everywhere "mkdir -p ssljax && tar -xzf ssljax.tar.gz -C ssljax && cd ssljax \
      && python3 -m pip install --quiet --user uv \
      && python3 -m uv venv --quiet --clear --seed --python 3.12 .venv \
      && .venv/bin/pip install --quiet -e '.[tpu]'"
    rm -r "$(dirname "$archive")"
    ;;
  run)
    arguments=$(printf ' %q' "$@" --config.distributed=true)
    # Because of exec, the signal of `stop` reaches Python and not a shell around it.
    everywhere "cd ssljax && exec .venv/bin/python -m ssljax.main$arguments"
    ;;
  stop)
    everywhere "pkill -TERM -f '[s]sljax.main'"
    ;;
  delete)
    gcloud compute tpus tpu-vm delete "$TPU" --zone="$ZONE" "$@"
    ;;
  *)
    echo "unknown command: $command (use create, install, run, stop or delete)" >&2
    exit 2
    ;;
esac
