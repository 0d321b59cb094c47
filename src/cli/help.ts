import { variables } from './settings.ts'

export const help = `job-access: access to storage for one training job, for as long as it runs

  job-access exec [request] -- COMMAND…     issue, run the command, give it the credentials while it runs, complete when it ends
  job-access agent [request]                give every process of a worker the credentials until SIGTERM: a sidecar, a node’s program
  job-access issue [request]                credentials on stdout, or in --out FILE
  job-access complete GRANT                 end a grant: its key dies now; or --grant-file FILE, or --job J --team T
  job-access rotate GRANT                   a fresh key; --overlap 10m keeps the old one so long
  job-access extend GRANT                   --duration, --not-after, --source-ip …: change a live grant
  job-access list                           --state S --team T --job J --account A --limit N --json
  job-access show GRANT                     --events, --blast-radius
  job-access join GRANT --worker NAME       a key for one worker of a job; [start] [source] --format … --out FILE --wait
  job-access workers GRANT                  --state S --json
  job-access end-worker GRANT --worker NAME --attempt START: only if that start has its key; default: whichever it is
  job-access policy [request]               the policy, issuing nothing; --explain, --full, --preflight
  job-access check GRANT|[request]          --action s3:PutObject --object bucket/key --from-ip IP --at INSTANT; exit 1 when denied
  job-access credential-process [request]   for credential_process of an AWS profile; --cache FILE (default: in memory) | --no-cache

request: --request FILE|- (JSON) and flags, which replace the file’s fields:
  --job ID --team TEAM --label NAME=VALUE…
  --dataset BUCKET[/PREFIX]… --base-model BUCKET[/PREFIX]… --output BUCKET[/PREFIX] --output-level write|read-write
  --dataset-key BUCKET/KEY… --base-model-key BUCKET/KEY… one object; 'BUCKET/BEGINNING*': the keys that begin so
  --access BUCKET[/PREFIX]… --with level=read|write|read-write: any other bucket
  --with OPTION,… of the entry before it: versions tags attributes restore uploads listNames bareName delete list=false acl=private key
        (the place is one object) clients=s3fs kmsKeyArns=ARN sid=NAME; several lists: clients=s3fs,clients=pyarrow
  --client NAME… what the job reads and writes with: pyarrow, s3fs, … (docs/clients.md)
  --duration 3h | --not-after INSTANT, --not-before INSTANT, --grace 10m
  --source-ip CIDR…, or --vpc ID… --vpc-arn ARN… --vpc-endpoint ID… --vpc-source-ip CIDR…; both: either may be used
  --source observed (the address that the service sees, instead of these)
  --layout everywhere|guarded|guide --attach auto|inline|managed|session --profile NAME
  --attempt START (e.g. the pod’s UID or the restart count: another one than before gets a fresh key, the key before dies)
  --replace (a fresh key, whoever has the one before)
  policy and check take neither --source, --profile, --attempt nor --replace.

issue:  --format json|env|aws-profile|credential-process|kubernetes-secret --out FILE --grant-file FILE
        --idempotency-key KEY (the same one is a retry; default: the job, which wants --attempt or --replace) --wait --issue-at INSTANT
        --workers N (a job of so many workers at the most: no key of its own, each joins)
exec, agent: --per-job (a restart with another --attempt gets the same grant, its old key dies)
        | --idempotency-key KEY (default: one per run)
        --no-wait --complete-seconds 20
        --credentials-file FILE (for programs that read nothing else; written anew with every fresh key)
        --poll 60s (how often the grant is looked at) --valid-for 16m (how long an SDK keeps a key before it asks again)
exec, agent for a worker of a job, instead of a request: --grant GRANT | --grant-file FILE (read)
        --worker NAME --attempt START [source]
        At the end they end the worker, not the job. Nothing is taken from the scheduler’s environment: give "$SLURMD_NODENAME" etc.
exec:   --keys-in-env (the key itself in the environment: no rotation, extension or next session reaches the command)
agent:  --token-file FILE (what lets the job’s processes in) --port N (default: any free one) --out FILE (the variables for them)
        --grant-file FILE --complete-on-exit

environment:
${Object.entries(variables).map(([name, text]) => `  ${name.padEnd(26)} ${text}`).join('\n')}

exit codes: 0 done, 1 refused, 2 the command line or the environment is wrong, 3 the service is not available.
exec exits with the command’s code: 128+n after signal n, 127 not found, 126 not runnable.
`
