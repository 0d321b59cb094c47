"""Airflow operators that run commands with their own access: one command (JobAccessOperator), or many as the workers of one job.

The connection `job_access` has the service's URL as host and the token as password:
AIRFLOW_CONN_JOB_ACCESS='{"conn_type": "http", "host": "https://job-access.example.com", "password": "jat_…"}'
It writes no secret to XCom, the log or a file. It needs Airflow 3 and no further packages.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request

from airflow.sdk import BaseHook, BaseOperator


class _JobAccess(BaseOperator):
    """What all have: the connection, and a request to the service."""

    def __init__(self, *, conn_id: str = "job_access", **kwargs) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def _credentials(self, path: str, request: dict) -> tuple[str, dict[str, str]]:
        headers, text = self._call(path, request, "text/x-env")
        pairs = (line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))
        return headers["job-access-grant"], {name: value for name, value in pairs}

    def _call(self, path: str, body: dict | None = None, accept: str = "application/json", method: str = "POST", seconds: float = 60):
        """Retries while the service is busy or does not answer. The attempt says that it is the same try."""
        connection = BaseHook.get_connection(self.conn_id)
        headers = {"Authorization": f"Bearer {connection.password}", "Accept": accept, "Content-Type": "application/json"}
        data = b"" if body is None else json.dumps(body).encode()
        until = time.monotonic() + seconds
        while True:
            try:
                call = urllib.request.Request(connection.host + path, data, headers, method=method)
                with opener.open(call, timeout=30) as answer:
                    return answer.headers, answer.read().decode()
            except urllib.error.HTTPError as error:
                wait = float(error.headers.get("Retry-After") or (2 if error.code == 503 else 0))
                problem = RuntimeError(f"job-access refused: {error.read().decode()}")
            except OSError as error:
                wait, problem = 2, RuntimeError(f"job-access did not answer: {error}")
            if not wait or time.monotonic() + wait >= until:
                raise problem
            time.sleep(wait)


class _Command(_JobAccess):
    """Runs a command while it has access. A subclass says how that begins and ends."""

    def __init__(self, *, command: list[str], **kwargs) -> None:
        super().__init__(**kwargs)
        self.command = command
        self._process: subprocess.Popen | None = None

    def execute(self, context) -> None:
        grant, credentials = self._begin(context["ti"])
        self.log.info("Grant %s", grant)
        try:
            code = self._run({**inherited(os.environ), **credentials, "JOBACCESS_GRANT": grant})
        finally:
            self._end_quietly(context["ti"], grant)
        if code != 0:
            raise RuntimeError(f"{self.command[0]} ended with {code}")

    def on_kill(self) -> None:
        """When the process has ended, execute() continues with its `finally`."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)

    def _begin(self, ti) -> tuple[str, dict[str, str]]:
        raise NotImplementedError

    def _end(self, ti, grant: str) -> None:
        raise NotImplementedError

    def _end_quietly(self, ti, grant: str) -> None:
        """A failure here must not fail a command that succeeded: the key ends with its window anyway."""
        try:
            self._end(ti, grant)
        except Exception as error:
            self.log.warning("Grant %s was not ended: %s", grant, error)

    def _run(self, env: dict[str, str]) -> int:
        # Its own process group, so that on_kill also ends the processes that the command started.
        self._process = subprocess.Popen(
            self.command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            for line in self._process.stdout:
                self.log.info("%s", line.rstrip())
            return self._process.wait()
        finally:
            self.on_kill()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)


class JobAccessOperator(_Command):
    """A command that is a job. It issues the grant before the command, and completes it afterwards, whatever the outcome.

    :param command: program and arguments; :param request: the job-access request without `job.id`, which the operator makes from the run.
    """

    template_fields = ("command", "request")

    def __init__(self, *, request: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.request = request

    def _begin(self, ti):
        # Another try says that the one before is gone: its key is deleted. The same try again is a retry.
        request = {**self.request, "job": {**self.request["job"], "id": job_id(ti)}, "attempt": str(ti.try_number)}
        return self._credentials("/v1/grants", request)

    def _end(self, ti, grant):
        self._call(f"/v1/grants/{grant}/complete")


class JobAccessIssueOperator(_JobAccess):
    """Issues a job of workers, the DAG run, which has no key of its own. Its result, in XCom, is the id of the grant: no secret.

    :param request: the job-access request without `job.id`; `workers.max`: as many as mapped tasks.
    """

    template_fields = ("request",)

    def __init__(self, *, request: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.request = request

    def execute(self, context) -> str:
        ti = context["ti"]
        whole = f"{ti.dag_id}/{ti.run_id}"
        _, text = self._call("/v1/grants", {**self.request, "job": {**self.request["job"], "id": shortened(whole)}})
        return json.loads(text)["grant"]["id"]


class JobAccessWorkerOperator(_Command):
    """A command that is a worker of a job: a mapped task. It joins before the command, and ends its own key afterwards, not the job.

    :param command: program and arguments; :param grant: of JobAccessIssueOperator;
    :param source: `sourceIps` or `vpc`; default: the address from which the service sees this machine.
    """

    template_fields = ("command", "grant", "source")

    def __init__(self, *, grant: str, source: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.grant = grant
        self.source = source or {"source": "observed"}

    def _begin(self, ti):
        # A try whose machine is lost has ended nothing: the next one has its name, and says by its number that it is gone.
        request = {"name": self._name(ti), "attempt": str(ti.try_number), **self.source}
        return self._credentials(f"/v1/grants/{self.grant}/workers", request)

    def _end(self, ti, grant):
        self._call(f"/v1/grants/{self.grant}/workers/{self._name(ti)}", method="DELETE")

    @staticmethod
    def _name(ti) -> str:
        return f"task-{max(ti.map_index, 0)}"


class JobAccessCompleteOperator(_JobAccess):
    """Ends the job, and the key of every worker that is left. Make it the teardown of JobAccessIssueOperator."""

    template_fields = ("grant",)

    def __init__(self, *, grant: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.grant = grant

    def execute(self, context) -> None:
        self._call(f"/v1/grants/{self.grant}/complete")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects: the token must go to no other address."""

    def redirect_request(self, *_):
        return None


opener = urllib.request.build_opener(NoRedirect)


def job_id(ti) -> str:
    """A task of a run is a job, with all its tries."""
    return shortened(f"{ti.dag_id}/{ti.task_id}/{ti.run_id}/{max(ti.map_index, 0)}")


def shortened(whole: str) -> str:
    """An id has at most 128 characters."""
    return whole if len(whole) <= 128 else f"{whole[:95]}/{hashlib.sha256(whole.encode()).hexdigest()[:32]}"


def inherited(env) -> dict[str, str]:
    """The environment without other credentials, and without Airflow's variables: with its token the command could ask for more access."""
    return {name: value for name, value in env.items() if not name.startswith(("AWS_", "AIRFLOW_", "JOBACCESS_"))}
