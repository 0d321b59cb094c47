import os
import subprocess
import sys
from operations import LARGE, REGION, main, operation, seed

RCLONE = os.path.join(os.path.dirname(sys.executable), 'rclone')


def rclone(run, *args, check_bucket=False):
    environment = {
        **os.environ, 'RCLONE_CONFIG': os.devnull, 'RCLONE_CONFIG_S_TYPE': 's3', 'RCLONE_CONFIG_S_PROVIDER': 'AWS', 'RCLONE_CONFIG_S_REGION': REGION,
        'RCLONE_CONFIG_S_ENDPOINT': run.endpoint, 'RCLONE_CONFIG_S_ACCESS_KEY_ID': run.key, 'RCLONE_CONFIG_S_SECRET_ACCESS_KEY': run.secret,
        'RCLONE_CONFIG_S_FORCE_PATH_STYLE': 'true', 'RCLONE_S3_NO_CHECK_BUCKET': 'false' if check_bucket else 'true',
        'RCLONE_RETRIES': '1', 'RCLONE_LOW_LEVEL_RETRIES': '1', 'RCLONE_S3_USE_UNSIGNED_PAYLOAD': 'true', 'RCLONE_S3_CHUNK_SIZE': '5M', 'RCLONE_S3_UPLOAD_CUTOFF': '6M'
    }
    result = subprocess.run([RCLONE, *args], env=environment, cwd=run.dir, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError((result.stderr + result.stdout).strip())
    return result.stdout


@seed
def objects(run):
    run.file('seed/model.bin', LARGE)
    run.file('seed/shards/0.bin')
    rclone(run, 'copy', 'seed', f's:{run.root}')


@operation('r', 'lsf of the directory itself')
def _(run):
    assert 'model.bin' in rclone(run, 'lsf', f's:{run.root}')


@operation('r', 'copy of the directory itself')
def _(run):
    rclone(run, 'copy', f's:{run.root}', 'all')


@operation('r', 'copyto of an object')
def _(run):
    rclone(run, 'copyto', f's:{run.root}/model.bin', 'model.bin')


@operation('r', 'cat of a range')
def _(run):
    rclone(run, 'cat', '--offset', '10', '--count', '10', f's:{run.root}/model.bin')


@operation('w', 'copyto of a small file, with --s3-no-check-bucket')
def _(run):
    run.file('small')
    rclone(run, 'copyto', 'small', f's:{run.root}/out/small')


@operation('w', 'copy of a folder, in parts')
def _(run):
    run.file('up/model.bin', LARGE)
    rclone(run, 'copy', 'up', f's:{run.root}/out/up')


@operation('w', 'copy to the directory itself')
def _(run):
    run.file('up2/two')
    rclone(run, 'copy', 'up2', f's:{run.root}')


@operation('w', 'copyto of a small file, without --s3-no-check-bucket', never=True)
def _(run):
    run.file('small')
    rclone(run, 'copyto', 'small', f's:{run.root}/out/checked', check_bucket=True)


@operation('rw', 'sync to a folder, then check')
def _(run):
    run.file('up/model.bin', LARGE)
    rclone(run, 'sync', 'up', f's:{run.root}/out/synced')
    rclone(run, 'check', 'up', f's:{run.root}/out/synced')


@operation('rw', 'copyto from object to object')
def _(run):
    rclone(run, 'copyto', f's:{run.root}/model.bin', f's:{run.root}/out/copy')


@operation('rwd', 'moveto')
def _(run):
    run.file('small')
    rclone(run, 'copyto', 'small', f's:{run.root}/out/old')
    rclone(run, 'moveto', f's:{run.root}/out/old', f's:{run.root}/out/new')


@operation('rwd', 'delete')
def _(run):
    rclone(run, 'delete', f's:{run.root}/out')


if __name__ == '__main__':
    main()
