#!/bin/bash
# TaskProlog= of slurm.conf, as the job's user: what it prints becomes the task's environment, or its output.
dir="/run/job-access/$SLURM_JOB_ID"
[ -e "$dir/credentials" ] && echo "export AWS_SHARED_CREDENTIALS_FILE=$dir/credentials"
[ -e "$dir/said" ] && sed 's/^/print /' "$dir/said"
exit 0
