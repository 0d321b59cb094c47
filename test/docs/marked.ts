/**
 * The blocks that need more than Node, by page and first line, and where they are run instead, or why nowhere. A block marked
 * `needs=…` that is not here fails, and so does a line here without its block.
 */
export const marked: Record<string, string> = {
  'README.md: npm ci && npm start': 'fetches from a registry; .ci/run does it, and test/smoke.sh starts what it got',
  'README.md: npm ci && npm test': 'fetches from a registry; .ci/run does it',
  'README.md: JOB_ACCESS_PROVIDER=aws \\': 'needs an AWS account, which no test has; the configuration is tested by test/config.test.ts',
  "docs/agent.md: srun --ntasks-per-node=1 bash -c 'job-access exec --request job-access.json --job \"slurm-$SLURM_JOB_ID-$SLURM_NODEID\" -- python3 train.py'": 'needs a Slurm cluster; test/commands/exec.test.ts runs exec with the same flags',
  'docs/agent.md: systemd-run --unit="job-access-$SLURM_JOB_ID" --property=EnvironmentFile=/etc/job-access/slurm.env \\': 'needs Slurm and systemd; test/commands/agent.test.ts runs the agent with the same flags',
  'docs/cookbook.md: {': 'run here on a service whose IAM has a role for sessions',
  'docs/dialects.md: versitygw -p :7071 iam --dir users --private-ports /run/versitygw/iam.sock': 'started like this, on free ports, by test/servers/versitygw.ts',
  'docs/audit.md: apt-get install -y --no-install-recommends syslog-ng-core syslog-ng-mod-http': 'installs; test/real/deploy/install.sh does it, and test/real/deploy/shipper.test.ts runs it',
  "docs/audit.md: grep -F '\"instance\":\"node-1\"' received.jsonl | sort -u | sort -t: -k3,3n > in-order.jsonl": 'run by test/real/deploy/shipper.test.ts',
  'docs/audit.md: deploy/syslog-ng/metrics.sh /run/job-access/shipper.ctl > /var/lib/node_exporter/audit.new': 'the script is run by test/real/deploy/shipper.test.ts',
  'docs/quick-start.md: npm ci': 'fetches from a registry; .ci/run does it, and then runs every test on what it got',
  'docs/quick-start.md: python3 -m venv tools': 'fetches from a registry; test/servers/install.sh and test/examples/install.sh install the same',
  'docs/quick-start.md: mkdir -p storage': 'run by test/real/seaweedfs/quick-start.test.ts',
  'docs/quick-start.md: export AWS_ACCESS_KEY_ID=admin AWS_SECRET_ACCESS_KEY=admin-secret': 'run by test/real/seaweedfs/quick-start.test.ts',
  'docs/quick-start.md: export PATH=$PWD/tools/bin:$PATH AWS_REGION=us-east-1 AWS_ENDPOINT_URL_S3=http://127.0.0.1:8333': 'run by test/real/seaweedfs/quick-start.test.ts',
  'docs/quick-start.md: TOKEN=jat_from_npm_start': 'run by test/real/seaweedfs/quick-start.test.ts',
  'docs/quick-start.md: job s3 cp s3://acmeco-datasets/wikipedia/story.txt -': 'run by test/real/seaweedfs/quick-start.test.ts',
  "docs/quick-start.md: ID=$(sed -n 's/^job-access-grant: \\([0-9a-z]*\\).*/\\1/p' headers)": 'run by test/real/seaweedfs/quick-start.test.ts',
  'docs/quick-start.md: rm -rf access.json headers job.env story.txt storage tools audit job-access.sqlite*': 'run by test/real/seaweedfs/quick-start.test.ts',
  'docs/stores/README.md: test/servers/install.sh versitygw': 'builds from a registry; .ci/run does it, and test/real/stores runs the doctor on it',
  'docs/stores/README.md: export AWS_ENDPOINT_URL_IAM=http://versitygw.storage:7071 JOB_ACCESS_S3_ENDPOINT=http://versitygw.storage:7070': 'needs a store; test/real/stores runs the same command on six of them',
  'docs/aws-first-run.md: export AWS_REGION=eu-west-1 AWS_PROFILE=empty-account': 'needs an AWS account, which no test has; test/real/localstack/aws-first-run.test.ts runs the command',
  'docs/aws-first-run.md: npm run -s aws-first-run -- --clean': 'needs an AWS account, which no test has; test/real/localstack/aws-first-run.test.ts runs the command',
  'docs/operating.md: npm run -s prove-store -- --bucket scratch': 'needs a store; test/real/versitygw/prove-store.test.ts runs it on one',
  'docs/operating.md: npm ci --ignore-scripts --prefix deploy/tracing': 'fetches from a registry; test/real/tracing/tracing.test.ts starts what it got',
  'docs/operating.md: docker build -t registry.example.com/job-access:0.1.0 .': 'needs Docker; test/real/deploy/image.test.ts does what the Dockerfile says',
  'docs/operating.md: kubectl exec job-access-0 -- node /app/dist/commands/reconcile.js --dry-run': 'needs a cluster; test/real/deploy/image.test.ts runs the commands in the files of the image',
  'docs/operating.md: aws iam list-users --path-prefix /job-access/': 'needs an AWS account, which no test has',
  'docs/orchestrators.md: npm run build:executable': 'fetches from a registry; npm run test:executable builds the file and runs it where there is no Node',
  'docs/orchestrators.md: job-access exec --job wiki-finetune-42 --team nlp \\': 'run here where there is a Python',
  'docs/orchestrators.md: job-access issue --request request.json --wait --format aws-profile --out credentials --grant-file grant': 'run here where there is a Python',
  'docs/orchestrators.md: cat > aws.ini <<END': 'run here where test/examples/install.sh has installed the AWS CLI'
}
