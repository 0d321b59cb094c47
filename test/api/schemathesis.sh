#!/usr/bin/env bash
# Runs Schemathesis with the OpenAPI document against the real service on its embedded IAM. It must find no 5xx and no undocumented answer.
# `use_after_free` is excluded, because an ended grant stays readable for its history.
# SCHEMATHESIS_EXAMPLES: the maximum of requests per operation and phase (default 40).
set -euo pipefail
cd "$(dirname "$0")/../.."
cli=${JOB_ACCESS_CACHE:-$HOME/.cache/job-access}/schemathesis/bin/schemathesis
[ -x "$cli" ] || { echo 'Schemathesis is not installed: run test/servers/install.sh schemathesis'; exit 1; }
out=$(mktemp)
PORT=0 LOG_LEVEL=error JOB_ACCESS_RATE_PER_MINUTE=10000000 JOB_ACCESS_MAX_GRANTS=1000000 JOB_ACCESS_MAX_GRANTS_PER_IDENTITY=1000000 \
  npm start > "$out" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; rm -f "$out"' EXIT
for _ in $(seq 120); do grep -q '^curl ' "$out" && break; sleep 0.5; done
url=$(grep -oE 'http://127\.0\.0\.1:[0-9]+' "$out" | head -1)
token=$(grep -oE 'jat_generated_[A-Za-z0-9_-]+' "$out" | head -1)
[ -n "$token" ] || { cat "$out"; echo 'the service did not start'; exit 1; }
"$cli" --config-file test/api/schemathesis.toml run openapi/openapi.json --url "$url" --header "Authorization: Bearer $token" \
  --checks all --exclude-checks use_after_free --max-examples "${SCHEMATHESIS_EXAMPLES:-40}" --seed 1 --generation-deterministic --no-color "$@"
