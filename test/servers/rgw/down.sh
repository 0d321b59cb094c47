#!/bin/bash
# Stops the daemons that up.sh started with the same RGW_DIR, and removes their files.
dir=${RGW_DIR:-${TMPDIR:-/tmp}/rgw}
for file in "$dir"/{rgw,osd,mon}.pid; do
  [ -f "$file" ] && kill -KILL "$(cat "$file")" 2>/dev/null
done
rm -rf -- "$dir"
