#!/bin/bash
# Prolog= of slurm.conf, with PrologFlags=Alloc. It runs as root on every node of a job. If the job's directory has a job-access.json, the
# node gets its own key for the job's user. A failing prolog would drain the node, so a refusal is written to a file for the task prolog.
set -euo pipefail
# PATH to job-access, JOBACCESS_URL, and JOBACCESS_TOKEN_FILE. Only root can read the token, so a job cannot ask for more access.
set -a; . /etc/job-access/slurm.env; set +a
dir="/run/job-access/$SLURM_JOB_ID"
job=$(scontrol show job "$SLURM_JOB_ID")
request=$(sed -n 's/^ *WorkDir=//p' <<< "$job")/job-access.json
# How often the job was requeued: another number says that the run before is gone, and its key is deleted.
restarts=$(sed -n 's/^ *Requeue=.* Restarts=\([0-9]*\).*/\1/p' <<< "$job")

# Read as the user: root must not read a file for users that they cannot read themselves.
asked=$(runuser -u "$SLURM_JOB_USER" -- cat -- "$request" 2> /dev/null) || exit 0
install -d -m 0711 /run/job-access "$dir"
# The token is valid for every team. So the team is always the user's group, and the team of the request is ignored.
if job-access issue --request - --team "$(id -gn "$SLURM_JOB_USER")" --job "slurm-$SLURM_JOB_ID-$(hostname -s)" \
  --attempt "${restarts:-0}" --wait --format aws-profile --out "$dir/credentials" --grant-file "$dir/grant" <<< "$asked" 2> "$dir/said"; then
  chown "$SLURM_JOB_USER" "$dir/credentials"
  rm "$dir/said"
else
  chmod 0644 "$dir/said"
fi
