import boto3
from botocore.config import Config
from operations import LARGE, REGION, SMALL, check, main, operation, seed


def s3(run):
    if 'boto3' not in run.cache:
        run.cache['boto3'] = boto3.session.Session(run.key, run.secret, region_name=REGION).client(
            's3', endpoint_url=run.endpoint, config=Config(retries={'max_attempts': 1}))
    return run.cache['boto3']


@seed
def objects(run):
    for name in ('model.bin', 'shards/0.bin', 'shards/1.bin'):
        s3(run).put_object(Bucket=run.bucket, Key=f'{run.prefix}/{name}', Body=LARGE if name == 'model.bin' else SMALL)


@operation('r', 'list the objects')
def _(run):
    pages = s3(run).get_paginator('list_objects_v2').paginate(Bucket=run.bucket, Prefix=f'{run.prefix}/')
    check(sum(len(page.get('Contents', [])) for page in pages) >= 3)


@operation('r', 'head an object')
def _(run):
    check(s3(run).head_object(Bucket=run.bucket, Key=f'{run.prefix}/model.bin')['ContentLength'] == len(LARGE))


@operation('r', 'head a missing object: 404')
def _(run):
    try:
        s3(run).head_object(Bucket=run.bucket, Key=f'{run.prefix}/missing')
    except s3(run).exceptions.ClientError as error:
        if error.response['ResponseMetadata']['HTTPStatusCode'] == 404:
            return
        raise
    raise AssertionError('it exists')


@operation('r', 'read a range')
def _(run):
    check(s3(run).get_object(Bucket=run.bucket, Key=f'{run.prefix}/model.bin', Range='bytes=10-19')['Body'].read() == LARGE[10:20])


@operation('r', 'download_file, in ranges')
def _(run):
    s3(run).download_file(run.bucket, f'{run.prefix}/model.bin', run.path('model.bin'))


@operation('w', 'put_object')
def _(run):
    s3(run).put_object(Bucket=run.bucket, Key=f'{run.prefix}/out/small', Body=SMALL)


@operation('w', 'upload_file, in parts')
def _(run):
    s3(run).upload_file(run.file('large', LARGE), run.bucket, f'{run.prefix}/out/large')


@operation('w', 'abort an upload')
def _(run):
    where = {'Bucket': run.bucket, 'Key': f'{run.prefix}/out/aborted'}
    upload = s3(run).create_multipart_upload(**where)['UploadId']
    s3(run).upload_part(**where, UploadId=upload, PartNumber=1, Body=SMALL)
    s3(run).list_parts(**where, UploadId=upload)
    s3(run).abort_multipart_upload(**where, UploadId=upload)


@operation('rw', 'copy an object')
def _(run):
    s3(run).copy({'Bucket': run.bucket, 'Key': f'{run.prefix}/model.bin'}, run.bucket, f'{run.prefix}/out/copy')


@operation('rwd', 'delete objects')
def _(run):
    s3(run).put_object(Bucket=run.bucket, Key=f'{run.prefix}/out/old', Body=SMALL)
    answer = s3(run).delete_objects(Bucket=run.bucket, Delete={'Objects': [{'Key': f'{run.prefix}/out/old'}]})
    check(not answer.get('Errors'), str(answer.get('Errors')))


if __name__ == '__main__':
    main()
