#!/bin/bash
# TaskProlog= of slurm.conf. It runs as the job's user. Slurm adds its `export` lines to the task's environment, and its `print` lines to
# the task's output.
dir="/run/job-access/$SLURM_JOB_ID"
[ -e "$dir/credentials" ] && echo "export AWS_SHARED_CREDENTIALS_FILE=$dir/credentials"
[ -e "$dir/said" ] && sed 's/^/print /' "$dir/said"
exit 0
