#!/bin/bash
# Prolog= of slurm.conf, as root on every node of a job, with PrologFlags=Alloc. Where the job's directory has a job-access.json, the
# node gets a key of its own for the job's user. A prolog that fails would drain the node, so a refusal is kept for the task prolog.
set -euo pipefail
# PATH to job-access, JOBACCESS_URL, and JOBACCESS_TOKEN_FILE, which is root's alone: a job cannot ask for more.
set -a; . /etc/job-access/slurm.env; set +a
dir="/run/job-access/$SLURM_JOB_ID"
request=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *WorkDir=//p')/job-access.json

# As the user: root must not read for them what they could not.
asked=$(runuser -u "$SLURM_JOB_USER" -- cat -- "$request" 2> /dev/null) || exit 0
install -d -m 0711 /run/job-access "$dir"
# The token may speak for every team, so the team is the user's group, whatever the request says.
if job-access issue --request - --team "$(id -gn "$SLURM_JOB_USER")" --job "slurm-$SLURM_JOB_ID-$(hostname -s)" --wait \
  --format aws-profile --out "$dir/credentials" --grant-file "$dir/grant" <<< "$asked" 2> "$dir/said"; then
  chown "$SLURM_JOB_USER" "$dir/credentials"
  rm "$dir/said"
else
  chmod 0644 "$dir/said"
fi
