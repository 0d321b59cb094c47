import pyarrow
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
from operations import LARGE, REGION, SMALL, check, main, operation, seed

TABLE = pyarrow.table({'part': ['a', 'a', 'b'], 'n': [1, 2, 3]})


def filesystem(run, **more):
    return pyarrow.fs.S3FileSystem(access_key=run.key, secret_key=run.secret, region=REGION, endpoint_override=run.endpoint.split('//')[1],
                                   scheme='http', retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=1), **more)


def write(run, where):
    pyarrow.dataset.write_dataset(TABLE, where, format='parquet', partitioning=['part'], filesystem=filesystem(run),
                                  existing_data_behavior='overwrite_or_ignore')


@seed
def objects(run):
    with filesystem(run).open_output_stream(f'{run.root}/model.bin') as file:
        file.write(LARGE)
    pyarrow.dataset.write_dataset(TABLE, f'{run.root}/table', format='parquet', partitioning=['part'], filesystem=filesystem(run),
                                  create_dir=False, existing_data_behavior='overwrite_or_ignore')


@operation('r', 'get_file_info of an object')
def _(run):
    check(filesystem(run).get_file_info(f'{run.root}/model.bin').size == len(LARGE))


@operation('r', 'get_file_info of a missing object')
def _(run):
    check(filesystem(run).get_file_info(f'{run.root}/missing').type == pyarrow.fs.FileType.NotFound)


@operation('r', 'get_file_info of the directory itself')
def _(run):
    check(filesystem(run).get_file_info(run.root).type == pyarrow.fs.FileType.Directory)


@operation('r', 'get_file_info of what is in the directory itself')
def _(run):
    check(len(filesystem(run).get_file_info(pyarrow.fs.FileSelector(run.root, recursive=True))) >= 3)


@operation('r', 'read a range')
def _(run):
    with filesystem(run).open_input_file(f'{run.root}/model.bin') as file:
        check(file.read_at(10, 10) == LARGE[10:20])


@operation('r', 'dataset of a folder')
def _(run):
    check(pyarrow.dataset.dataset(f'{run.root}/table', filesystem=filesystem(run), partitioning=['part']).count_rows() == 3)


@operation('r', 'read_table of a folder')
def _(run):
    check(pyarrow.parquet.read_table(f'{run.root}/table', filesystem=filesystem(run)).num_rows == 3)


@operation('r', 'dataset of the directory itself')
def _(run):
    files = pyarrow.dataset.dataset(run.root, filesystem=filesystem(run), format='parquet', exclude_invalid_files=True).files
    check(len(files) == 2)


@operation('w', 'open_output_stream of a small object')
def _(run):
    with filesystem(run).open_output_stream(f'{run.root}/out/small') as file:
        file.write(SMALL)


@operation('w', 'open_output_stream, in parts')
def _(run):
    with filesystem(run).open_output_stream(f'{run.root}/out/large') as file:
        for _ in range(2):
            file.write(LARGE)


@operation('w', 'write_dataset with create_dir=False')
def _(run):
    pyarrow.dataset.write_dataset(TABLE, f'{run.root}/out/plain', format='parquet', filesystem=filesystem(run), create_dir=False,
                                  existing_data_behavior='overwrite_or_ignore')


@operation('w', 'create_dir')
def _(run):
    filesystem(run).create_dir(f'{run.root}/out/made', recursive=False)


@operation('w', 'create_dir, recursive', never=True)
def _(run):
    filesystem(run).create_dir(f'{run.root}/out/made/too')


@operation('w', 'write_dataset below the directory', never=True)
def _(run):
    write(run, f'{run.root}/out/table')


@operation('rw', 'write_dataset with create_dir=False, and read it')
def _(run):
    pyarrow.dataset.write_dataset(TABLE, f'{run.root}/out/again', format='parquet', partitioning=['part'], filesystem=filesystem(run),
                                  create_dir=False, existing_data_behavior='overwrite_or_ignore')
    check(pyarrow.dataset.dataset(f'{run.root}/out/again', filesystem=filesystem(run)).count_rows() == 3)


@operation('rw', 'write_dataset to the directory itself', never=True)
def _(run):
    write(run, run.root)


@operation('rw', 'copy_file')
def _(run):
    filesystem(run).copy_file(f'{run.root}/model.bin', f'{run.root}/out/copy')


@operation('rwd', 'move')
def _(run):
    with filesystem(run).open_output_stream(f'{run.root}/out/old') as file:
        file.write(SMALL)
    filesystem(run).move(f'{run.root}/out/old', f'{run.root}/out/new')


@operation('rwd', 'delete_dir', never=True)
def _(run):
    write(run, f'{run.root}/out/gone')
    filesystem(run).delete_dir(f'{run.root}/out/gone')


if __name__ == '__main__':
    main()
