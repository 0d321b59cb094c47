#!/bin/sh
# For SDKs that run a credential_process and do not ask the agent, since its answer for a user's key has an empty Token: those on AWS's
# Common Runtime, as the Amazon S3 Connector for PyTorch is. Needs the variables of `job-access agent --out`, and curl. In ~/.aws/config:
#   [default]
#   credential_process = /opt/job-access/credential-process.sh
# The answer as it is wanted there: AWS SDKs and Tools Reference Guide, "Process credential provider".
set -eu
answer=$(curl -sS --fail-with-body -H "Authorization: $(cat "$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")" "$AWS_CONTAINER_CREDENTIALS_FULL_URI") ||
  { echo "$answer" >&2; exit 1; }
echo "$answer" | sed 's/^{/{"Version":1,/; s/"Token":"",//; s/"Token":/"SessionToken":/'
