#!/bin/bash
# An MPI job in which every rank has its own key: run.sh RANKS COMMAND… The ranks may be on any nodes; each key works from its rank's
# node alone. A rank asks the exec around it for credentials, so that a rotation or a longer window reaches it.
# mpirun's processes need the token: -x passes its file's name, which must be there on every node.
set -euo pipefail
ranks=$1
shift
# A fresh id for this run: a second run of the script is another job.
job-access issue --request request.json --job "mpi-$(date +%s)-$$" --workers "$ranks" --grant-file grant > issued.json
trap 'job-access complete --grant-file grant' EXIT
mpirun ${MPIRUN_FLAGS:-} -np "$ranks" -x JOBACCESS_URL -x JOBACCESS_TOKEN_FILE \
  bash -c 'exec job-access exec --grant-file grant --worker "rank-$OMPI_COMM_WORLD_RANK" --attempt 0 --source observed -- "$@"' - "$@" &
trap "kill $!; wait $!; exit 143" TERM
wait $!
