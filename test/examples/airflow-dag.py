"""Laid into a DAG folder by airflow.test.ts, beside the operator: a DAG for each way that a command can end."""

import datetime

from airflow.sdk import DAG
from job_access import JobAccessOperator

request = {
    "job": {"team": "nlp"},
    "datasets": [{"bucket": "acmeco-datasets"}],
    "output": {"bucket": "acmeco-models", "prefix": "{{ dag.dag_id }}"},
    "window": {"durationSeconds": 3600},
    "sourceIps": ["203.0.113.42"],
}
show = "import os, json; json.dump(dict(os.environ), open(os.environ['SEEN'], 'w'))"
cases = {
    "passes": {"command": ["python3", "-c", show]},
    "fails": {"command": ["sh", "-c", "exit 5"]},
    "missing": {"command": ["no-such-command"]},
    "hangs": {"command": ["sh", "-c", "echo started; sleep 60"], "execution_timeout": datetime.timedelta(seconds=4)},
    "refused": {"command": ["true"], "request": {**request, "datasets": [{"bucket": "Not_A_Bucket"}]}},
}
for name, case in cases.items():
    with DAG(dag_id=name, schedule=None, start_date=datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)) as dag:
        JobAccessOperator(task_id="train", **{"request": request, **case})
    globals()[name] = dag
