#!/bin/bash
# [LITTER='FILE...'] supervise.sh DIR SIGNAL COMMAND...
# Runs COMMAND until it ends or until our standard input closes. Then it ends the whole process group and removes DIR and
# LITTER. Only the test process holds the other end of standard input. So the kernel closes it even when that process is
# killed with SIGKILL, and no server outlives its test.
dir=$1 signal=$2
shift 2

# Job control gives COMMAND its own process group, which we can end without ending ourselves.
set -m
exec 3<&0
"$@" </dev/null 3<&- &
command=$!
cat <&3 >/dev/null 2>&1 &
exec 3<&-

trap '' TERM INT QUIT HUP
wait -n

kill -s "$signal" -- "-$command" 2>/dev/null
for _ in $(seq 50); do
  kill -0 -- "-$command" 2>/dev/null || break
  sleep 0.1
done
kill -s KILL -- "-$command" 2>/dev/null
rm -rf -- "$dir" ${LITTER:-}
kill %cat 2>/dev/null
exit 0
