#!/bin/bash
# Epilog= of slurm.conf, as root on every node when the job has ended there, however it ended. An epilog that fails would drain the
# node; a key that could not be ended dies with its window, and syslog has its grant.
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
