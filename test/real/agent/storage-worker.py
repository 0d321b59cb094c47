"""A training process that writes and reads an object again and again, with one client that lives as long as it does: storage-worker.py CLIENT.

Its variables: ENDPOINT, BUCKET, PREFIX, and those of the agent. No client retries, so that every refusal is seen. It writes a line for
every turn: `ok`, or `failed` and what the client said. It ends with its input.
"""

import atexit
import io
import itertools
import json
import os
import select
import subprocess
import sys
import tempfile
import urllib.request

ENDPOINT, BUCKET, PREFIX = (os.environ[name] for name in ("ENDPOINT", "BUCKET", "PREFIX"))
REGION = "us-east-1"


def boto3():
    import boto3
    from botocore.config import Config

    s3 = boto3.client("s3", endpoint_url=ENDPOINT, region_name=REGION, config=Config(retries={"total_max_attempts": 1}))

    def turn(key, content):
        s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    return turn


def s3fs():
    import s3fs

    files = s3fs.S3FileSystem(
        endpoint_url=ENDPOINT, client_kwargs={"region_name": REGION}, config_kwargs={"retries": {"total_max_attempts": 1}}, use_listings_cache=False
    )
    files.retries = 1

    def turn(key, content):
        files.pipe_file(f"{BUCKET}/{key}", content)
        return files.cat_file(f"{BUCKET}/{key}")

    return turn


def pyarrow():
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    files = S3FileSystem(
        endpoint_override=ENDPOINT.split("//")[1], scheme="http", region=REGION, retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1)
    )

    def turn(key, content):
        with files.open_output_stream(f"{BUCKET}/{key}") as file:
            file.write(content)
        with files.open_input_file(f"{BUCKET}/{key}") as file:
            return file.read()

    return turn


def rclone():
    """`rclone rcd` is rclone as a process that stays; it is told what to do over HTTP on loopback."""
    folder = tempfile.mkdtemp(dir=os.environ["HOME"])
    options = {
        "RCLONE_CONFIG": os.devnull, "RCLONE_CONFIG_S_TYPE": "s3", "RCLONE_CONFIG_S_PROVIDER": "Other", "RCLONE_CONFIG_S_REGION": REGION,
        "RCLONE_CONFIG_S_ENV_AUTH": "true", "RCLONE_CONFIG_S_ENDPOINT": ENDPOINT, "RCLONE_CONFIG_S_FORCE_PATH_STYLE": "true",
        "RCLONE_S3_NO_CHECK_BUCKET": "true", "RCLONE_LOW_LEVEL_RETRIES": "1", "RCLONE_RETRIES": "1",
    }
    daemon = subprocess.Popen(
        [os.path.join(os.path.dirname(sys.executable), "rclone"), "rcd", "--rc-no-auth", "--rc-addr", "127.0.0.1:0"],
        env={**os.environ, **options}, stderr=subprocess.PIPE, text=True
    )
    atexit.register(daemon.kill)
    url = next(line for line in daemon.stderr if "Serving remote control on " in line).split(" on ")[1].strip()

    def copy(source, name, target, key):
        body = json.dumps({"srcFs": source, "srcRemote": name, "dstFs": target, "dstRemote": key}).encode()
        try:
            urllib.request.urlopen(urllib.request.Request(f"{url}operations/copyfile", body, {"Content-Type": "application/json"}))
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from None

    def turn(key, content):
        with open(os.path.join(folder, "out"), "wb") as file:
            file.write(content)
        copy(folder, "out", f"s:{BUCKET}", key)
        copy(f"s:{BUCKET}", key, folder, "in")
        with open(os.path.join(folder, "in"), "rb") as file:
            return file.read()

    return turn


def s3torchconnector():
    """The Rust client under it, which needs no PyTorch. AWS's Common Runtime finds the credentials."""
    from s3torchconnectorclient._mountpoint_s3_client import MountpointS3Client

    s3 = MountpointS3Client(region=REGION, user_agent_prefix="test", endpoint=ENDPOINT, force_path_style=True, max_attempts=1)

    def turn(key, content):
        stream = s3.put_object(BUCKET, key)
        stream.write(content)
        stream.close()
        return b"".join(s3.get_object(BUCKET, key))

    return turn


def minio():
    """It is told the credentials file alone, and reads it for every request."""
    from minio import Minio
    from minio.credentials import AWSConfigProvider

    provider = AWSConfigProvider(os.environ["AWS_SHARED_CREDENTIALS_FILE"], "default")
    s3 = Minio(ENDPOINT.split("//")[1], credentials=provider, region=REGION, secure=False)

    def turn(key, content):
        s3.put_object(BUCKET, key, io.BytesIO(content), len(content))
        with s3.get_object(BUCKET, key) as answer:
            return answer.read()

    return turn


clients = {client.__name__: client for client in (boto3, s3fs, pyarrow, rclone, s3torchconnector, minio)}
turn = clients[sys.argv[1]]()
for count in itertools.count():
    if select.select([sys.stdin], [], [], 0.2)[0]:
        break
    content = f"checkpoint {count}".encode()
    try:
        back = turn(f"{PREFIX}/{count % 5}", content)
        print("ok" if back == content else f"failed it read {back!r}", flush=True)
    except Exception as error:
        print("failed", repr(error).replace("\n", " "), flush=True)
