"""What every runner of a client shares: the operations, their levels, and the loop that runs them.

A runner is a process of its own that reads one JSON line per run from its standard input:

    {"endpoint", "accessKeyId", "secretAccessKey", "bucket", "prefix", "rights", "seed"}

and answers one JSON line per operation, {"client", "operation", "rights", "never", "ok", "error"}, then an empty line. It lives through many runs, since
importing these clients takes longer than what they do.
"""
import json
import os
import shutil
import sys
import tempfile
import traceback

_operations = []
_seeds = []

REGION = 'us-east-1'

# Which operations are run with a grant of these rights. What only writes is run with and without the right to read.
RUNS = {'r': ('r',), 'w': ('w',), 'rw': ('w', 'rw'), 'rwd': ('rwd',)}
SMALL = b'weights'
# Above the 5 MiB that S3 wants of a part, and above the threshold of most clients.
LARGE = bytes(range(256)) * (9 * 4096)


class Run:
    """One grant, and the place that it opens: `bucket/prefix`, without a slash at the end."""

    def __init__(self, endpoint, accessKeyId, secretAccessKey, bucket, prefix, rights, seed):
        self.endpoint, self.key, self.secret = endpoint, accessKeyId, secretAccessKey
        self.bucket, self.prefix, self.rights, self.seeding = bucket, prefix, rights, seed
        self.root = f'{bucket}/{prefix}'
        self.url = f's3://{self.root}'
        self.dir = tempfile.mkdtemp(prefix='compat-')
        self.cache = {}

    def file(self, name, content=SMALL):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as file:
            file.write(content)
        return path

    def path(self, name):
        return os.path.join(self.dir, name)


def operation(rights, name, never=False):
    """`rights`: what the operation must be allowed to do: r(ead), w(rite), d(elete). `never`: the service grants it to nobody."""
    def register(function):
        _operations.append((rights, name, never, function))
        return function
    return register


def seed(function):
    """Runs as the owner of the bucket, before a run that reads."""
    _seeds.append(function)
    return function


def check(condition, what='another answer'):
    if not condition:
        raise AssertionError(what)


_owners = {'__main__'}


def own(function):
    """A runner may import from another one, but it runs its operations only if it adopts them."""
    return function.__module__ in _owners


def adopt(module, names):
    """Runs the operations of another runner whose names begin like these."""
    _owners.add(module.__name__)
    _operations[:] = [one for one in _operations if one[1].startswith(names)]


def _one(run, function):
    try:
        function(run)
        return True, None
    except BaseException as error:  # SystemExit too: command lines in the same process
        if os.environ.get('COMPAT_TRACE'):
            traceback.print_exc()
        return False, f'{type(error).__name__}: {error}'[-400:]


def main():
    client = os.path.basename(sys.argv[0]).removeprefix('run_').removesuffix('.py')
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # What clients print is no answer.
    for line in sys.stdin:
        run = Run(**json.loads(line))
        os.environ.update({
            'AWS_ACCESS_KEY_ID': run.key, 'AWS_SECRET_ACCESS_KEY': run.secret, 'AWS_ENDPOINT_URL': run.endpoint,
            'AWS_DEFAULT_REGION': REGION, 'AWS_REGION': REGION
        })
        todo = [('', function.__name__, False, function) for function in _seeds if own(function)] if run.seeding else [
            one for one in _operations if one[0] in RUNS[run.rights] and own(one[3])]
        for rights, name, never, function in todo:
            ok, error = _one(run, function)
            print(json.dumps({'client': client, 'operation': name, 'rights': rights, 'never': never, 'ok': ok, 'error': error}), file=answers)
        print(file=answers, flush=True)
        shutil.rmtree(run.dir, ignore_errors=True)
