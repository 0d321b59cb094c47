"""Run by airflow.test.ts: the operator in a real DAG, with dag.test(). Arguments: the operator's directory, what to do."""

import datetime
import json
import sys

sys.path.insert(0, sys.argv[1])
from airflow.sdk import DAG  # noqa: E402
from job_access import JobAccessOperator  # noqa: E402

request = {
    "job": {"team": "nlp"},
    "datasets": [{"bucket": "acmeco-datasets"}],
    "output": {"bucket": "acmeco-models", "prefix": "{{ dag.dag_id }}"},
    "window": {"durationSeconds": 3600},
    "sourceIps": ["203.0.113.42"],
}
show = "import os, json; print('ENV ' + json.dumps(dict(os.environ)), flush=True)"
cases = {
    "passes": {"command": ["python3", "-c", show]},
    "fails": {"command": ["sh", "-c", "exit 5"]},
    "missing": {"command": ["no-such-command"]},
    "hangs": {"command": ["sh", "-c", "echo started; sleep 60"], "execution_timeout": datetime.timedelta(seconds=4)},
    "refused": {"command": ["true"], "request": {**request, "datasets": [{"bucket": "Not_A_Bucket"}]}},
}
case = sys.argv[2]
with DAG(dag_id=case, schedule=None, start_date=datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)) as dag:
    JobAccessOperator(task_id="train", **{"request": request, **cases[case]})
run = dag.test()
print("RUN " + json.dumps({"state": str(run.state)}))
