import smart_open
from operations import LARGE, SMALL, check, main, operation, seed
from run_boto3 import s3


def opened(run, name, mode):
    return smart_open.open(f'{run.url}/{name}', mode, transport_params={'client': s3(run)})


@seed
def objects(run):
    with opened(run, 'model.bin', 'wb') as file:
        file.write(LARGE)


@operation('r', 'open, and read a range')
def _(run):
    with opened(run, 'model.bin', 'rb') as file:
        file.seek(10)
        check(file.read(10) == LARGE[10:20])


@operation('r', 'iter_bucket')
def _(run):
    from smart_open.s3 import iter_bucket
    found = list(iter_bucket(run.bucket, prefix=f'{run.prefix}/', workers=1, session_kwargs={
        'aws_access_key_id': run.key, 'aws_secret_access_key': run.secret}))
    check(len(found) >= 1)


@operation('w', 'open to write')
def _(run):
    with opened(run, 'out/small', 'wb') as file:
        file.write(SMALL)


@operation('w', 'open to write, in parts')
def _(run):
    with smart_open.open(f'{run.url}/out/large', 'wb', transport_params={'client': s3(run), 'min_part_size': 5 * 2 ** 20}) as file:
        file.write(LARGE)


if __name__ == '__main__':
    main()
