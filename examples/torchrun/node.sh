#!/bin/bash
# Runs on every node of a PyTorch job, started by whatever starts it: ssh, Slurm, a scheduler. One exec for each node joins, and all the
# ranks that torchrun starts there ask it for credentials: they are restarted with the same key. A node that is started again is another
# attempt.
#   job-access issue --request request.json --workers 4 --grant-file grant     once, before
#   job-access complete --grant-file grant                                     once, after
# GRANT is the id in that file; NODES, NODE_RANK, MASTER and ATTEMPT are what the starter knows.
set -euo pipefail
: "${GRANT:?}" "${NODES:?}" "${NODE_RANK:?}" "${MASTER:?}" "${ATTEMPT:?how often this node was started}"
exec job-access exec --grant "$GRANT" --worker "node-$NODE_RANK" --attempt "$ATTEMPT" --source observed \
  -- torchrun --nnodes "$NODES" --node-rank "$NODE_RANK" --nproc-per-node "${GPUS:-8}" --max-restarts 3 \
  --rdzv-backend c10d --rdzv-endpoint "$MASTER:29400" train.py
