import datasets
from operations import main, operation, seed, check
from run_s3fs import options

datasets.disable_progress_bars()
TABLE = {'n': [1, 2, 3]}


def table():
    return datasets.Dataset.from_dict(TABLE)


@seed
def saved(run):
    table().save_to_disk(run.url, storage_options=options(run))
    table().to_parquet(f'{run.url}/parquet/0.parquet', storage_options=options(run))


@operation('r', 'load_from_disk of the directory itself')
def _(run):
    check(datasets.load_from_disk(run.url, storage_options=options(run)).num_rows == 3)


@operation('r', 'load_dataset of a Parquet file')
def _(run):
    rows = datasets.load_dataset('parquet', data_files=f'{run.url}/parquet/0.parquet', storage_options=options(run), split='train',
                                 cache_dir=run.path('cache'))
    check(rows.num_rows == 3)


@operation('r', 'load_dataset, streaming, by a pattern')
def _(run):
    rows = datasets.load_dataset('parquet', data_files=f'{run.url}/parquet/*.parquet', storage_options=options(run), split='train', streaming=True)
    check(len(list(rows)) == 3)


@operation('w', 'save_to_disk below the directory')
def _(run):
    table().save_to_disk(f'{run.url}/out/saved', storage_options=options(run))


@operation('w', 'save_to_disk to the directory itself')
def _(run):
    table().save_to_disk(run.url, storage_options=options(run))


@operation('w', 'to_parquet')
def _(run):
    table().to_parquet(f'{run.url}/out/1.parquet', storage_options=options(run))


@operation('rw', 'save_to_disk, then load_from_disk')
def _(run):
    table().save_to_disk(f'{run.url}/out/again', storage_options=options(run))
    check(datasets.load_from_disk(f'{run.url}/out/again', storage_options=options(run)).num_rows == 3)


if __name__ == '__main__':
    main()
