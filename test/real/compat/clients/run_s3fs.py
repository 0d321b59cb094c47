import fsspec
from operations import LARGE, REGION, SMALL, check, main, operation, seed


def filesystem(run):
    if 's3fs' not in run.cache:
        run.cache['s3fs'] = fsspec.filesystem('s3', **options(run))
    # What was listed by the operation before must not answer for this one.
    run.cache['s3fs'].invalidate_cache()
    return run.cache['s3fs']


def options(run):
    return {'key': run.key, 'secret': run.secret, 'endpoint_url': run.endpoint, 'client_kwargs': {'region_name': REGION}}


@seed
def objects(run):
    for name in ('model.bin', 'shards/0.bin', 'shards/1.bin'):
        filesystem(run).pipe_file(f'{run.root}/{name}', LARGE if name == 'model.bin' else SMALL)


@operation('r', 'exists and info of an object')
def _(run):
    check(filesystem(run).exists(f'{run.root}/model.bin'))
    check(filesystem(run).info(f'{run.root}/model.bin')['size'] == len(LARGE))


@operation('r', 'exists of a missing object')
def _(run):
    check(not filesystem(run).exists(f'{run.root}/missing'))


@operation('r', 'info of a folder')
def _(run):
    check(filesystem(run).isdir(f'{run.root}/shards'))


@operation('r', 'info of the directory itself')
def _(run):
    check(filesystem(run).info(run.root)['type'] == 'directory')


@operation('r', 'exists of the directory itself')
def _(run):
    check(filesystem(run).exists(run.root))


@operation('r', 'ls of the directory itself')
def _(run):
    check(len(filesystem(run).ls(run.root)) >= 2)


@operation('r', 'glob and find')
def _(run):
    check(len(filesystem(run).glob(f'{run.root}/shards/*.bin')) == 2)
    check(len(filesystem(run).find(f'{run.root}/shards')) == 2)


@operation('r', 'find in the directory itself')
def _(run):
    check(len(filesystem(run).find(run.root)) >= 3)


@operation('r', 'open, and read a range')
def _(run):
    with filesystem(run).open(f'{run.root}/model.bin', 'rb') as file:
        file.seek(10)
        check(file.read(10) == LARGE[10:20])


@operation('r', 'get of a folder')
def _(run):
    filesystem(run).get(f'{run.root}/shards', run.path('shards'), recursive=True)


@operation('r', 'get of the directory itself')
def _(run):
    filesystem(run).get(run.root, run.path('all'), recursive=True)


@operation('w', 'pipe_file of a small object')
def _(run):
    filesystem(run).pipe_file(f'{run.root}/out/small', SMALL)


@operation('w', 'open to write, in parts')
def _(run):
    with filesystem(run).open(f'{run.root}/out/large', 'wb', block_size=5 * 2 ** 20) as file:
        file.write(LARGE)


@operation('w', 'put of a file')
def _(run):
    filesystem(run).put(run.file('small'), f'{run.root}/out/put')


@operation('w', 'put of a folder')
def _(run):
    run.file('up/one')
    filesystem(run).put(run.path('up'), f'{run.root}/out/up', recursive=True)


@operation('w', 'makedirs of a folder')
def _(run):
    filesystem(run).makedirs(f'{run.root}/out/made', exist_ok=True)


@operation('rw', 'put of a folder, then get')
def _(run):
    run.file('both/one')
    filesystem(run).put(run.path('both'), f'{run.root}/out/both', recursive=True)
    filesystem(run).get(f'{run.root}/out/both', run.path('back'), recursive=True)


@operation('rw', 'copy an object')
def _(run):
    filesystem(run).cp_file(f'{run.root}/model.bin', f'{run.root}/out/copy')


@operation('rwd', 'checkpoint: write beside, then rename')
def _(run):
    with filesystem(run).open(f'{run.root}/out/ckpt.tmp', 'wb') as file:
        file.write(SMALL)
    filesystem(run).rename(f'{run.root}/out/ckpt.tmp', f'{run.root}/out/ckpt')
    check(filesystem(run).cat_file(f'{run.root}/out/ckpt') == SMALL)


@operation('rwd', 'rm of a folder')
def _(run):
    filesystem(run).pipe_file(f'{run.root}/out/old/one', SMALL)
    filesystem(run).rm(f'{run.root}/out/old', recursive=True)


if __name__ == '__main__':
    main()
