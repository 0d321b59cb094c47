"""A DAG whose run is one job with a worker for each mapped task: the first task issues the job's grant, each mapped task joins it and has a
key of its own, from its own machine alone, and the last one completes it. A task that is tried again joins as the next attempt."""

import datetime

from airflow.sdk import DAG
from job_access import JobAccessCompleteOperator, JobAccessIssueOperator, JobAccessWorkerOperator

SHARDS = 4

with DAG(dag_id="wiki_finetune", schedule=None, start_date=datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)):
    issue = JobAccessIssueOperator(
        task_id="issue",
        request={
            "job": {"team": "nlp"},
            "datasets": [{"bucket": "acmeco-training-datasets-wikipedia-2025-07-01"}],
            "output": {"bucket": "acmeco-finetuned-models", "prefix": "wiki-finetune/", "level": "read-write"},
            "window": {"durationSeconds": 10800},
            # A task that is tried again has the name that it had.
            "workers": {"max": SHARDS},
        },
    )
    train = JobAccessWorkerOperator.partial(
        task_id="train", grant=issue.output, retries=2, retry_delay=datetime.timedelta(seconds=30)
    ).expand(command=[["python3", "train.py", "--shard", str(shard)] for shard in range(SHARDS)])
    complete = JobAccessCompleteOperator(task_id="complete", grant=issue.output)

    # A teardown runs when all tasks are done, as with trigger_rule="all_done", and the run still fails when a task has failed. Who clears a
    # task of a run that has ended clears issue and complete with it, so that there is a grant again.
    issue >> train >> complete.as_teardown(setups=issue)
