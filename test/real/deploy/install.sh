#!/usr/bin/env bash
# Installs the tools that check deploy/: helm, kustomize and compose-go's command from the Go module proxy, kubernetes-validate
# (with the schemas of Kubernetes) from PyPI, syslog-ng from Debian, a reader of Grafana's dashboards on its own types from
# test/real/deploy/dashboard, into ${JOB_ACCESS_CACHE:-$HOME/.cache/job-access}.
# test/servers/install.sh installs promtool. terraform must be installed already, because it is large. Installed tools are not changed.
set -euo pipefail

cache=${JOB_ACCESS_CACHE:-$HOME/.cache/job-access}
mkdir -p "$cache/bin"
exec 9>"$cache/deploy.lock"
flock 9

say () { echo "install.sh: $*" >&2; }

# go_tool NAME MODULE VERSION
go_tool () {
  local name=$1 module=$2 version=$3 stamp=$cache/bin/.$1.$3 built
  [ -x "$cache/bin/$name" ] && [ -f "$stamp" ] && return
  command -v go >/dev/null || { say "go is needed for $name"; exit 1; }
  say "building $name $version"
  built=$(mktemp -d)
  GOBIN=$built go install "$module@$version" >/dev/null 2>"$built/log" || { cat "$built/log" >&2; exit 1; }
  rm "$built/log"
  mv "$built"/* "$cache/bin/$name"
  rm -rf "$built" "$cache/bin/.$name."*
  touch "$stamp"
}

go_tool helm helm.sh/helm/v3/cmd/helm v3.21.0
go_tool kustomize sigs.k8s.io/kustomize/kustomize/v5 v5.7.1
# The library behind `docker compose config`.
go_tool compose-config github.com/compose-spec/compose-go/v2/cmd v2.16.2

source=$(dirname "$(realpath "$0")")/dashboard
stamp=$cache/bin/.dashboard.$(cat "$source"/go.sum "$source"/main.go | sha256sum | cut -c1-16)
if ! [ -x "$cache/bin/dashboard" ] || ! [ -f "$stamp" ]; then
  command -v go >/dev/null || { say 'go is needed for the dashboard'; exit 1; }
  say 'building the reader of dashboards'
  (cd "$source" && go build -o "$cache/bin/dashboard" .)
  rm -f "$cache"/bin/.dashboard.*
  touch "$stamp"
fi

kubernetes_validate=kubernetes-validate==1.37.0
dir=$cache/kubernetes-validate
if ! [ -f "$dir/installed.txt" ] || [ "$(cat "$dir/installed.txt")" != "$kubernetes_validate" ]; then
  say "installing $kubernetes_validate"
  rm -rf "$dir"
  python3 -m venv "$dir"
  "$dir/bin/pip" install -q --disable-pip-version-check "$kubernetes_validate"
  echo "$kubernetes_validate" > "$dir/installed.txt"
fi

# The log shipper of docs/audit.md. The tests need its programs, but not the service that Debian's package starts.
if ! dpkg -s syslog-ng-core syslog-ng-mod-http >/dev/null 2>&1; then
  say 'installing syslog-ng'
  as_root () { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
  as_root apt-get -o DPkg::Lock::Timeout=300 update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
    syslog-ng-core syslog-ng-mod-http </dev/null >/dev/null
  if [ -d /run/systemd/system ]; then as_root systemctl disable --now syslog-ng >/dev/null 2>&1; fi
fi

command -v terraform >/dev/null || { say 'terraform is needed'; exit 1; }
