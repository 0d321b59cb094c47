import boto3
from cloudpathlib import S3Client
from operations import LARGE, REGION, SMALL, check, main, operation, seed


def path(run, name=''):
    if 'client' not in run.cache:
        session = boto3.session.Session(run.key, run.secret, region_name=REGION)
        run.cache['client'] = S3Client(boto3_session=session, endpoint_url=run.endpoint)
    return run.cache['client'].CloudPath(run.url + name)


@seed
def objects(run):
    path(run, '/model.bin').write_bytes(LARGE)
    path(run, '/shards/0.bin').write_bytes(SMALL)


@operation('r', 'exists and is_file of an object')
def _(run):
    check(path(run, '/model.bin').exists() and path(run, '/model.bin').is_file())
    check(path(run, '/model.bin').stat().st_size == len(LARGE))


@operation('r', 'exists of a missing object')
def _(run):
    check(not path(run, '/missing').exists())


@operation('r', 'exists and is_dir of the directory itself')
def _(run):
    check(path(run).exists() and path(run).is_dir())


@operation('r', 'iterdir and glob of the directory itself')
def _(run):
    check(len(list(path(run).iterdir())) >= 2)
    check(len(list(path(run).rglob('*.bin'))) >= 2)


@operation('r', 'read_bytes')
def _(run):
    check(path(run, '/model.bin').read_bytes() == LARGE)


@operation('r', 'download_to of a folder')
def _(run):
    path(run, '/shards').download_to(run.path('shards'))


@operation('w', 'write_bytes')
def _(run):
    path(run, '/out/small').write_bytes(SMALL)


@operation('w', 'upload_from, in parts')
def _(run):
    path(run, '/out/large').upload_from(run.file('large', LARGE))


@operation('rw', 'write_bytes, and read them')
def _(run):
    path(run, '/out/both').write_bytes(SMALL)
    check(path(run, '/out/both').read_bytes() == SMALL)


@operation('rw', 'copy')
def _(run):
    path(run, '/model.bin').copy(path(run, '/out/copy'))


@operation('rwd', 'rename')
def _(run):
    path(run, '/out/old').write_bytes(SMALL)
    path(run, '/out/old').rename(path(run, '/out/new'))


if __name__ == '__main__':
    main()
