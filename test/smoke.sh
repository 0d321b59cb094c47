#!/usr/bin/env bash
# The README's first command, as a new user runs it: start, paste the printed curl, stop.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp)
PORT=0 npm start > "$out" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true; rm -f "$out"' EXIT
for _ in $(seq 120); do grep -q '^curl ' "$out" && break; sleep 0.5; done
sed -n '/^curl /,/^$/p' "$out" > "$out.sh"
grep -q '^curl ' "$out.sh" || { cat "$out"; echo 'smoke: the service did not start'; exit 1; }
answer=$(bash "$out.sh")
rm -f "$out.sh"
for wanted in '"state":"active"' '"Sid":"FinetunedModelsWrite"' '"secretAccessKey":"' '"accessKeyId":"AKIAEMBEDDED'; do
  grep -qF "$wanted" <<< "$answer" || { echo "smoke: the answer lacks $wanted"; exit 1; }
done
url=$(grep -oE 'http://127\.0\.0\.1:[0-9]+' "$out" | head -1)
[ "$(curl -s -o /dev/null -w '%{http_code}' -X POST "$url/v1/grants")" = 401 ] || { echo 'smoke: not 401 without a token'; exit 1; }
kill -TERM $server
for _ in $(seq 60); do curl -s -o /dev/null "$url/healthz" || break; sleep 0.5; done
! curl -s -o /dev/null "$url/healthz" || { echo 'smoke: still listening 30 s after SIGTERM'; exit 1; }
echo 'smoke: started, issued the guide’s job, refused without a token, stopped'
