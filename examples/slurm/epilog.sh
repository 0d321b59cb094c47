#!/bin/bash
# Epilog= of slurm.conf. It runs as root on every node when the job has ended there, also after a failure. A failing epilog would drain
# the node, so this one never fails. If it cannot complete a grant, the key ends with its window, and the grant's id is in syslog.
set -uo pipefail
set -a; . /etc/job-access/slurm.env; set +a
dir="/run/job-access/$SLURM_JOB_ID"
[ -d "$dir" ] || exit 0
rm -f "$dir/credentials"
if [ -s "$dir/grant" ]; then
  said=$(job-access complete --grant-file "$dir/grant" 2>&1) || logger -t job-access "job $SLURM_JOB_ID, grant $(cat "$dir/grant"): $said"
fi
rm -rf "$dir"
exit 0
