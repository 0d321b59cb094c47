import os
import subprocess
import run_awscli
from operations import adopt, main, operation

# Debian's AWS CLI 2, which has a Python environment of its own: each command is a process, which takes long. So these are the commands
# alone whose answer depends on the policy.
COMMANDS = ('s3 ls', 's3 sync to')


def aws(run, *args):
    # AWS CLI 1, which run_awscli imports, sets the directory of its own data.
    environment = {name: value for name, value in os.environ.items() if name != 'AWS_DATA_PATH'}
    result = subprocess.run(['/usr/bin/aws', '--endpoint-url', run.endpoint, *args], cwd=run.dir, capture_output=True, text=True,
                            env=environment)
    if result.returncode != 0:
        raise RuntimeError((result.stderr + result.stdout).strip())
    return result.stdout


run_awscli.aws = aws
adopt(run_awscli, COMMANDS)


@operation('rw', 's3 cp from object to object, in parts, with --copy-props metadata-directive')
def _(run):
    aws(run, 's3', 'cp', '--copy-props', 'metadata-directive', f'{run.url}/model.bin', f'{run.url}/out/large-copy')


@operation('rw', 's3 cp from object to object, in parts', never=True)
def _(run):
    aws(run, 's3', 'cp', f'{run.url}/model.bin', f'{run.url}/out/large-copy')


if __name__ == '__main__':
    main()
