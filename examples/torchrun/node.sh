#!/bin/bash
# Runs on every node of a PyTorch job, started by whatever starts it: ssh, Slurm, a scheduler. One exec for each node joins, and all the
# ranks that torchrun starts there ask it for credentials: they are restarted with the same key. A node that is started again is another
# attempt.
#   job-access issue --request request.json --workers 4 --grant-file grant     once, before
#   job-access complete --grant-file grant                                     once, after
# GRANT is the id in that file; NODES, NODE_RANK, MASTER and ATTEMPT are what the starter knows. MASTER is the host of the node that the
# others find, and HOST:PORT where 29400 is taken. NODE_RANK names the worker: torchrun itself numbers the nodes as they arrive.
set -euo pipefail
: "${GRANT:?}" "${NODES:?}" "${NODE_RANK:?}" "${MASTER:?}" "${ATTEMPT:?how often this node was started}"
# Options with underscores, which every torchrun takes: those before 2.0 know no others.
exec job-access exec --grant "$GRANT" --worker "node-$NODE_RANK" --attempt "$ATTEMPT" --source observed \
  -- torchrun --nnodes "$NODES" --nproc_per_node "${GPUS:-8}" --max_restarts 3 \
  --rdzv_id "$GRANT" --rdzv_backend c10d --rdzv_endpoint "$MASTER" train.py
