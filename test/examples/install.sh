#!/usr/bin/env bash
# Installs the tools for the tests of the examples into ${JOB_ACCESS_CACHE:-$HOME/.cache/job-access}/examples. It can be run repeatedly.
# If a tool cannot be installed, this script says so, and the tool's test is skipped with the reason.
set -euo pipefail
cache="${JOB_ACCESS_CACHE:-$HOME/.cache/job-access}/examples"
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

venv() { # NAME PACKAGE…
  local name=$1; shift
  [ "$(cat "$cache/$name/.installed" 2>/dev/null)" = "$*" ] && return
  rm -rf "${cache:?}/$name"
  python3 -m venv "$cache/$name"
  "$cache/$name/bin/pip" install --quiet --disable-pip-version-check "$@" && echo "$*" > "$cache/$name/.installed"
}

venv lint kubernetes-validate==1.37.0 hera==7.1.0 zizmor==1.32.0 awscli==1.45.11 || echo 'install.sh: no kubernetes-validate, hera, zizmor or aws' >&2
venv airflow apache-airflow-core==3.3.2 || echo 'install.sh: no Airflow' >&2

[ -x "$cache/actionlint" ] || { command -v go > /dev/null && GOBIN="$cache" go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.7; } ||
  echo 'install.sh: no actionlint' >&2

command -v slurmctld slurmd munged > /dev/null || {
  [ "$(id -u)" = 0 ] && apt-get install -y -q --no-install-recommends slurmctld slurmd slurm-client munge > "$cache/apt.log" 2>&1
} || echo 'install.sh: no Slurm (apt-get, as root)' >&2

command -v mpirun > /dev/null || {
  [ "$(id -u)" = 0 ] && apt-get install -y -q --no-install-recommends openmpi-bin > "$cache/mpi.log" 2>&1
} || echo 'install.sh: no Open MPI (apt-get, as root)' >&2

# 149 MB with all that it needs. PyPI's is built for CUDA, and has 540 MB. It brings torchrun.
command -v torchrun > /dev/null || {
  [ "$(id -u)" = 0 ] && apt-get install -y -q --no-install-recommends python3-torch > "$cache/torch.log" 2>&1
} || echo 'install.sh: no torchrun (apt-get, as root)' >&2
