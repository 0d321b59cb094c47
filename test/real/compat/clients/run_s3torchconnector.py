from s3torchconnectorclient._mountpoint_s3_client import MountpointS3Client
from operations import LARGE, REGION, SMALL, check, main, operation, seed

# The Rust client under s3torchconnector: what S3MapDataset, S3IterableDataset, S3Checkpoint and S3StorageWriter call. The package above
# it needs PyTorch.


def client(run):
    return MountpointS3Client(region=REGION, user_agent_prefix='compat', endpoint=run.endpoint, force_path_style=True, part_size=5 * 2 ** 20)


def put(run, name, content):
    stream = client(run).put_object(run.bucket, f'{run.prefix}/{name}')
    stream.write(content)
    stream.close()


@seed
def objects(run):
    put(run, 'model.bin', LARGE)
    put(run, 'shards/0.bin', SMALL)


@operation('r', 'list, as S3MapDataset.from_prefix does')
def _(run):
    check(sum(len(page.object_info) for page in client(run).list_objects(run.bucket, prefix=f'{run.prefix}/')) >= 2)


@operation('r', 'list, by a URI without a slash at the end')
def _(run):
    check(sum(len(page.object_info) for page in client(run).list_objects(run.bucket, prefix=run.prefix)) >= 2)


@operation('r', 'head an object')
def _(run):
    check(client(run).head_object(run.bucket, f'{run.prefix}/model.bin').size == len(LARGE))


@operation('r', 'checkpoint: load')
def _(run):
    check(b''.join(client(run).get_object(run.bucket, f'{run.prefix}/model.bin')) == LARGE)


@operation('r', 'read a range')
def _(run):
    check(b''.join(client(run).get_object(run.bucket, f'{run.prefix}/model.bin', start=10, end=20)) == LARGE[10:20])


@operation('w', 'checkpoint: save, in parts')
def _(run):
    put(run, 'out/ckpt', LARGE)


@operation('rw', 'copy an object')
def _(run):
    client(run).copy_object(run.bucket, f'{run.prefix}/model.bin', run.bucket, f'{run.prefix}/out/copy')


@operation('rwd', 'checkpoint: save beside, then rename')
def _(run):
    put(run, 'out/ckpt.tmp', SMALL)
    client(run).copy_object(run.bucket, f'{run.prefix}/out/ckpt.tmp', run.bucket, f'{run.prefix}/out/ckpt')
    client(run).delete_object(run.bucket, f'{run.prefix}/out/ckpt.tmp')


if __name__ == '__main__':
    main()
