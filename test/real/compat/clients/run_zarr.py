import numpy
import zarr
from operations import check, main, operation, seed
from run_s3fs import options


def write(run, url):
    group = zarr.open_group(url, mode='a', storage_options=options(run))
    group.create_array('n', data=numpy.arange(100), chunks=(50,), overwrite=False)


@seed
def groups(run):
    write(run, run.url)
    write(run, f'{run.url}/group')


@operation('r', 'open_group of a folder, and read')
def _(run):
    check(zarr.open_group(f'{run.url}/group', mode='r', storage_options=options(run))['n'][10] == 10)


@operation('r', 'open_group of the directory itself, and read')
def _(run):
    group = zarr.open_group(run.url, mode='r', storage_options=options(run))
    check(group['n'][10] == 10)
    check('n' in list(group.array_keys()))


@operation('w', 'create an array')
def _(run):
    zarr.create_array(f'{run.url}/out/array', data=numpy.arange(100), storage_options=options(run))


@operation('rw', 'open_group, append, read')
def _(run):
    write(run, f'{run.url}/out/group')
    group = zarr.open_group(f'{run.url}/out/group', mode='a', storage_options=options(run))
    group['n'].append(numpy.arange(50))
    check(group['n'].shape == (150,))


@operation('rwd', 'overwrite an array')
def _(run):
    for _ in range(2):
        zarr.create_array(f'{run.url}/out/again', data=numpy.arange(100), overwrite=True, storage_options=options(run))


if __name__ == '__main__':
    main()
