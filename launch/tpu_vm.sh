#!/usr/bin/env bash
# One training on a Cloud TPU, a single host or a slice of many:
#
#   export TPU=ssljax ZONE=us-central1-a TYPE=v5litepod-16 VERSION=v2-alpha-tpuv5-lite
#   launch/tpu_vm.sh create [--spot]        # then, for several hosts, NFS=ADDRESS:/SHARE
#   launch/tpu_vm.sh install                # this checkout's last commit, to every host
#   launch/tpu_vm.sh run --config=configs/fixmatch.py --workdir=/mnt/shared/run1
#   launch/tpu_vm.sh stop                   # SIGTERM: saves, and `run` exits 143
#   launch/tpu_vm.sh delete
#
# `run` again with the same arguments continues. Needs gcloud with a project set. With
# several hosts --workdir and --config.data lie on a file system that all of them see;
# `install` mounts $NFS (a Filestore share, for example) at /mnt/shared.
set -euo pipefail

: "${TPU:?name of the TPU}" "${ZONE:?its zone}"
cd "$(dirname "$0")/.."

everywhere() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

what=${1:?create, install, run, stop or delete}
shift
case "$what" in
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
    # The image's own Python may be too old; uv brings one. --seed adds pip, with which
    # ssljax fetches the encoder.
    everywhere "mkdir -p ssljax && tar -xzf ssljax.tar.gz -C ssljax && cd ssljax \
      && python3 -m pip install --quiet --user uv \
      && python3 -m uv venv --quiet --clear --seed --python 3.12 .venv \
      && .venv/bin/pip install --quiet -e '.[tpu]'"
    rm -r "$(dirname "$archive")"
    ;;
  run)
    arguments=$(printf ' %q' "$@" --config.distributed=true)
    # exec: the signal of `stop` is for Python, not for a shell around it.
    everywhere "cd ssljax && exec .venv/bin/python -m ssljax.main$arguments"
    ;;
  stop)
    everywhere "pkill -TERM -f '[s]sljax.main'"
    ;;
  delete)
    gcloud compute tpus tpu-vm delete "$TPU" --zone="$ZONE" "$@"
    ;;
  *)
    echo "no such command: $what (create, install, run, stop, delete)" >&2
    exit 2
    ;;
esac
