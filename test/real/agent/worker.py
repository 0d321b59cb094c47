"""A worker as a training job is one: a client of boto3 that lives long. For every line of its input it asks STS who it is."""

import os
import sys

import boto3
from botocore.config import Config

client = boto3.client("sts", endpoint_url=os.environ["STS"], region_name="us-east-1", config=Config(retries={"total_max_attempts": 1}))
for _ in sys.stdin:
    try:
        print("ok", client.get_caller_identity()["Arn"], flush=True)
    except Exception as error:
        print("failed", str(error).replace("\n", " "), flush=True)
