import os
import shutil
from dvc.repo import Repo
from operations import LARGE, main, operation, seed

os.environ['DVC_NO_ANALYTICS'] = '1'


def repository(run, remote):
    os.environ.update({'DVC_SITE_CACHE_DIR': run.path('site'), 'DVC_GLOBAL_CONFIG_DIR': run.path('global'), 'DVC_SYSTEM_CONFIG_DIR': run.path('system')})
    shutil.rmtree(run.path('repo'), ignore_errors=True)
    os.mkdir(run.path('repo'))
    os.chdir(run.path('repo'))
    Repo.init(no_scm=True).close()
    run.file('repo/.dvc/config', f"""[core]
    no_scm = True
    remote = s3
['remote "s3"']
    url = {remote}
    endpointurl = {run.endpoint}
    access_key_id = {run.key}
    secret_access_key = {run.secret}
""".encode())
    run.file('repo/data/model.bin', LARGE)
    run.file('repo/data/config.json')
    repo = Repo(run.path('repo'))
    repo.add('data')
    return repo


@seed
def pushed(run):
    repository(run, run.url).push()


@operation('r', 'status, and pull')
def _(run):
    repo = repository(run, run.url)
    shutil.rmtree(run.path('repo/.dvc/cache'))
    shutil.rmtree(run.path('repo/data'))
    repo.status(cloud=True)
    repo.pull()
    assert os.path.exists(run.path('repo/data/model.bin'))


@operation('w', 'push')
def _(run):
    repository(run, f'{run.url}/out').push()


@operation('w', 'push to the directory itself')
def _(run):
    repository(run, run.url).push()


@operation('rw', 'push again')
def _(run):
    repo = repository(run, f'{run.url}/out/twice')
    repo.push()
    run.file('repo/data/more')
    repo.add('data')
    repo.push()


if __name__ == '__main__':
    main()
