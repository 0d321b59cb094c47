import contextlib
import io
import os
from awscli.clidriver import create_clidriver
from operations import LARGE, main, operation, seed

os.environ.update({'AWS_CONFIG_FILE': os.devnull, 'AWS_SHARED_CREDENTIALS_FILE': os.devnull, 'AWS_MAX_ATTEMPTS': '1'})


def aws(run, *args):
    """In this process: to start the command takes longer than what it does."""
    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
    os.chdir(run.dir)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = create_clidriver().main(['--endpoint-url', run.endpoint, *args])
    printed = out.buffer.getvalue().decode()
    if status != 0:
        raise RuntimeError((err.getvalue() + printed).strip())
    return printed


@seed
def objects(run):
    run.file('seed/model.bin', LARGE)
    run.file('seed/shards/0.bin')
    aws(run, 's3', 'cp', '--recursive', 'seed', run.url)


@operation('r', 's3 ls of the directory, with a slash')
def _(run):
    assert 'model.bin' in aws(run, 's3', 'ls', f'{run.url}/')


@operation('r', 's3 ls of the directory, without a slash')
def _(run):
    assert 'PRE' in aws(run, 's3', 'ls', run.url)


@operation('r', 's3 cp of an object, in ranges')
def _(run):
    aws(run, 's3', 'cp', f'{run.url}/model.bin', 'model.bin')


@operation('r', 's3 sync of the directory')
def _(run):
    aws(run, 's3', 'sync', run.url, 'synced')


@operation('w', 's3 cp of a small file')
def _(run):
    run.file('small')
    aws(run, 's3', 'cp', 'small', f'{run.url}/out/small')


@operation('w', 's3 cp of a large file, in parts')
def _(run):
    run.file('large', LARGE)
    aws(run, 's3', 'cp', 'large', f'{run.url}/out/large')


@operation('w', 's3 sync to the directory')
def _(run):
    run.file('up/one')
    aws(run, 's3', 'sync', 'up', f'{run.url}/out/synced')


@operation('rw', 's3 cp from object to object')
def _(run):
    aws(run, 's3', 'cp', f'{run.url}/shards/0.bin', f'{run.url}/out/copy')


@operation('rw', 's3 cp from object to object, in parts')
def _(run):
    aws(run, 's3', 'cp', f'{run.url}/model.bin', f'{run.url}/out/large-copy')


@operation('rwd', 's3 mv')
def _(run):
    run.file('small')
    aws(run, 's3', 'mv', 'small', f'{run.url}/out/old')
    aws(run, 's3', 'mv', f'{run.url}/out/old', f'{run.url}/out/new')


@operation('rwd', 's3 sync --delete')
def _(run):
    run.file('up/one')
    aws(run, 's3', 'sync', '--delete', 'up', f'{run.url}/out/mirror')


@operation('rwd', 's3 rm --recursive')
def _(run):
    aws(run, 's3', 'rm', '--recursive', f'{run.url}/out')


if __name__ == '__main__':
    main()
