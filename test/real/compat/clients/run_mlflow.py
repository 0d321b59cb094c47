import os
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository
from operations import LARGE, check, main, operation, seed


def repository(run, name=''):
    os.environ['MLFLOW_S3_ENDPOINT_URL'] = run.endpoint
    return S3ArtifactRepository(run.url + name, access_key_id=run.key, secret_access_key=run.secret)


@seed
def artifacts(run):
    run.file('up/model.bin', LARGE)
    run.file('up/sub/config.json')
    repository(run).log_artifacts(run.path('up'))


@operation('r', 'list_artifacts')
def _(run):
    check(len(repository(run).list_artifacts()) == 2)
    check(len(repository(run).list_artifacts('sub')) == 1)


@operation('r', 'download_artifacts of one')
def _(run):
    repository(run).download_artifacts('model.bin', run.dir)


@operation('r', 'download_artifacts of all')
def _(run):
    os.mkdir(run.path('all'))
    repository(run).download_artifacts('', run.path('all'))


@operation('w', 'log_artifact')
def _(run):
    repository(run, '/out').log_artifact(run.file('small'))


@operation('w', 'log_artifacts')
def _(run):
    run.file('up/model.bin', LARGE)
    run.file('up/sub/config.json')
    repository(run, '/out').log_artifacts(run.path('up'))


@operation('rwd', 'delete_artifacts')
def _(run):
    repository(run, '/out/old').log_artifact(run.file('small'))
    repository(run, '/out/old').delete_artifacts()


if __name__ == '__main__':
    main()
