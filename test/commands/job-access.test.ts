import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { readConfig } from '../../src/config.ts'
import { guideRequest } from '../../src/request.ts'
import { variables } from '../../src/cli/settings.ts'
import { cliCommand, jobFlags, runCli, startService } from './service.ts'

const service = await startService(t)
const cli = (...args: string[]) => runCli(t, args, service.env)
const home = mkdtempSync(join(tmpdir(), 'job-access-cli-'))
t.teardown(() => rmSync(home, { recursive: true, force: true }))

const full = '/dev/full'
t.test('an answer that cannot be written is a failure', { skip: !existsSync(full) && 'Linux only' }, async t => {
  const help = [...cliCommand, 'help'].map(word => `'${word}'`).join(' ')
  const { status, stderr } = spawnSync('sh', ['-c', `${help} > ${full}`], { encoding: 'utf8' })
  t.match({ status, stderr }, { status: 1, stderr: /stdout cannot be written: ENOSPC/ })
  t.equal(spawnSync('sh', ['-c', `${help} 2> ${full}`], { encoding: 'utf8' }).status, 0)
})

t.test('a grant by hand, from issue to complete', async t => {
  const issued = await cli('issue', ...jobFlags('hand'))
  t.equal(issued.code, 0, issued.stderr)
  const { grant, credentials } = JSON.parse(issued.stdout)
  t.match(credentials, { accessKeyId: /^AKIA/, secretAccessKey: /./ })
  t.match(grant.policy.Statement.length, 3)

  const shown = await cli('show', grant.id)
  t.equal(JSON.parse(shown.stdout).id, grant.id)
  t.match((await cli('show', grant.id, '--events')).stdout, /"action": "active"/)
  t.match((await cli('show', grant.id, '--blast-radius')).stdout, /acmeco-datasets/)
  t.match((await cli('list', '--team', 'nlp')).stdout, new RegExp(`^${grant.id}  active     \\S+Z  nlp  hand$`, 'm'))
  t.match(JSON.parse((await cli('list', '--json', '--job', 'hand', '--state', 'active', '--limit', '1')).stdout), [{ id: grant.id }])

  const writing = ['--action', 's3:PutObject', '--object', 'acmeco-models/hand/x', '--from-ip']
  t.match(await cli('check', grant.id, ...writing, '203.0.113.42'), { code: 0, stdout: /^allow: / })
  t.match(await cli('check', grant.id, ...writing, '203.0.113.43'), { code: 1, stdout: /^(implicit|explicit)-deny: / })
  t.match(await cli('check', grant.id, ...writing, '203.0.113.42', '--at', '2020-01-01T00:00:00Z'), { code: 1 })

  const delivered = await cli('issue', ...jobFlags('hand'))
  t.match(delivered, { code: 1, stdout: '', stderr: /key-delivered: .*another `attempt`.*--attempt START or --replace/s }, 'the job is the key')
  t.equal(JSON.parse((await cli('show', grant.id)).stdout).accessKeyId, credentials.accessKeyId)
  const replaced = JSON.parse((await cli('issue', ...jobFlags('hand'), '--replace')).stdout)
  const again = JSON.parse((await cli('issue', ...jobFlags('hand'), '--attempt', '2')).stdout)
  t.strictSame([replaced.grant.id, again.grant.id, again.grant.attempt], [grant.id, grant.id, '2'])
  t.equal(new Set([credentials, replaced.credentials, again.credentials].map(({ accessKeyId }) => accessKeyId)).size, 3)
  const other = await cli('issue', ...jobFlags('hand'), '--dataset', 'acmeco-others')
  t.match(other, { code: 1, stderr: /idempotency-conflict.*Complete that grant first/s })
  const second = JSON.parse((await cli('issue', ...jobFlags('hand'), '--idempotency-key', 'second')).stdout)
  t.not(second.grant.id, grant.id)

  t.match((await cli('rotate', grant.id, '--overlap', '10m', '--format', 'env')).stdout, /^AWS_SECRET_ACCESS_KEY=/m)
  t.equal(JSON.parse((await cli('show', grant.id)).stdout).previousKey.accessKeyId, again.credentials.accessKeyId)
  const { window, ...rest } = JSON.parse((await cli('extend', grant.id, '--duration', '2h', '--source-ip', '198.51.100.0/24')).stdout)
  t.equal(Date.parse(window.notAfter) - Date.parse(window.notBefore), 7_200_000)
  t.match(JSON.stringify(rest.policy), /198\.51\.100\.0\/24/)

  const done = await cli('complete', '--team', 'nlp', '--job', 'hand')
  t.equal(done.code, 0)
  t.strictSame(done.stdout.trim().split('\n').sort(), [`${grant.id} revoked`, `${second.grant.id} revoked`].sort())
  t.match(await cli('complete', grant.id), { code: 0, stdout: `${grant.id} revoked\n` }, 'twice')
  t.match((await cli('list', '--job', 'hand')).stdout, new RegExp(`^${grant.id}  completed  \\S+Z  nlp  hand$`, 'm'))
  t.match(await cli('complete', '--team', 'nlp', '--job', 'hand'), { code: 0, stdout: '', stderr: /no live grant/ })
})

t.test('every format', async t => {
  const starts: [string, RegExp][] = [
    ['json', /^\{\n/],
    ['env', /^# grant/],
    ['aws-profile', /^\[default\]$/m],
    ['credential-process', /^\{"Version":1/],
    ['kubernetes-secret', /^kind: "Secret"$/m]
  ]
  for (const [format, start] of starts) {
    t.match((await cli('issue', ...jobFlags('formats'), '--idempotency-key', 'formats', '--format', format)).stdout, start, format)
  }
  t.match(await cli('issue', ...jobFlags('formats'), '--format', 'xml'), { code: 2, stderr: /one of json, env/ })
})

t.test('into files that only the owner reads', async t => {
  const [out, grantFile] = [join(home, 'credentials'), join(home, 'grant')]
  const issued = await cli('issue', ...jobFlags('files'), '--format', 'aws-profile', '--out', out, '--grant-file', grantFile)
  t.match(issued, { code: 0, stdout: '' })
  t.notMatch(issued.stderr, /secret/i)
  t.match(readFileSync(out, 'utf8'), /aws_secret_access_key = /)
  for (const path of [out, grantFile]) t.equal(statSync(path).mode & 0o777, 0o600, path)
  t.match((await cli('rotate', '--grant-file', grantFile, '--format', 'aws-profile', '--out', out)).code, 0)
  t.match(await cli('complete', '--grant-file', grantFile), { code: 0, stdout: `${readFileSync(grantFile, 'utf8').trim()} revoked\n` })
  t.strictSame(readdirSync(home).sort(), ['credentials', 'grant'])

  t.match(await cli('issue', ...jobFlags('nowhere'), '--out', join(home, 'no', 'credentials')), { code: 2, stderr: /cannot be written/ })
  t.equal((await cli('list', '--job', 'nowhere')).stdout, '', 'not asked for what cannot be kept')
})

t.test('a request from a file, from stdin, and changed by flags', async t => {
  const file = join(home, 'request.json')
  writeFileSync(file, JSON.stringify(guideRequest))
  t.match(JSON.parse((await cli('policy', '--request', file)).stdout), { Version: '2012-10-17', Statement: [{ Sid: 'WikipediaReadOnly' }] })
  const piped = await runCli(t, ['policy', '--request', '-', '--full'], service.env, JSON.stringify(guideRequest))
  t.match(JSON.parse(piped.stdout), { attach: 'inline', proof: null })
  const tooLong = await cli('policy', '--request', file, '--not-after', '2099-01-01T00:00:00Z', '--preflight')
  t.match(tooLong, { code: 1, stdout: '', stderr: /window-too-long at \/window/ }, 'the file’s durationSeconds gives way')
  const place = ['--output', 's3://acmeco-other/runs', '--output-level', 'read-write', '--layout', 'guarded']
  const flags = [...place, '--label', 'a=b=c', '--grace', '10m', '--duration', '90m']
  const { policy, window } = JSON.parse((await cli('policy', '--request', file, '--full', ...flags)).stdout)
  t.match(JSON.stringify(policy), /arn:aws:s3:::acmeco-other\/runs\/\*/)
  t.match(JSON.stringify(policy), /"Deny"/)
  t.equal(Date.parse(window.outputNotAfter) - Date.parse(window.notBefore), 100 * 60_000)
  t.match((await cli('policy', '--request', file, '--explain')).stdout, /^Allow {2}WikipediaReadOnly: /m)
  const observed = ['--job', 'observed', '--team', 'nlp', '--dataset', 'acmeco-datasets', '--duration', '1h', '--source', 'observed']
  t.match(await cli('issue', ...observed), { code: 1, stdout: '', stderr: /at \/source: Of the observed address 127\.0\.0\.1/ })
  t.match(await cli('issue', '--request', file, '--source', 'observed'), { code: 1, stderr: /at \/sourceIps/ })
  t.match((await cli('policy', '--request', file, ...place, '--client', 'pyarrow', '--client', 's3fs')).stdout, /arn:aws:s3:::acmeco-other\/runs"/)
  const question = ['--action', 's3:GetObject', '--object', 'acmeco-base-models/x', '--from-ip', '203.0.113.42']
  t.match(await cli('check', '--request', file, ...question, '--json'), { code: 0, stdout: /"allowed": true/ })
})

t.test('every option of an entry, by --with after it', async t => {
  const full = async (...flags: string[]) => {
    const { policy } = JSON.parse((await cli('policy', '--job', 'j', '--team', 'nlp', '--duration', '1h', '--source-ip', '203.0.113.42', '--full', ...flags)).stdout)
    return policy.Statement.map(({ Sid, Action }: { Sid: string, Action: string[] }) => [Sid, ...Action].join(' ').replaceAll('s3:', ''))
  }
  t.strictSame(await full('--dataset', 'acme-a/x/', '--with', 'versions,tags,attributes,restore,listNames,sid=Wiki', '--dataset-key', 'acme-b/y', '--dataset', 'acme-c/z/', '--with', 'list=false', '--with', 'bareName'), [
    'Wiki GetObject GetObjectVersion GetObjectTagging GetObjectVersionTagging GetObjectAttributes GetObjectVersionAttributes RestoreObject GetBucketLocation GetBucketVersioning',
    'WikiNames ListBucket ListBucketVersions', 'Dataset2 GetObject GetBucketLocation', 'Dataset3 GetObject GetBucketLocation'
  ])
  t.strictSame(await full('--output', 'acme-a/model.bin', '--with', 'key,delete,acl=private', '--access', 'acme-b/x/', '--with', 'level=write,uploads,clients=s3fs,clients=dvc'), [
    'Output PutObject AbortMultipartUpload ListMultipartUploadParts DeleteObject GetBucketLocation', 'OutputAcl PutObjectAcl',
    'Access1 PutObject AbortMultipartUpload ListMultipartUploadParts GetBucketLocation', 'Access1List ListBucket', 'Access1Names ListBucketMultipartUploads'
  ])
  const request = ['policy', '--job', 'j', '--team', 'nlp', '--duration', '1h', '--source-ip', '203.0.113.42']
  t.match(await cli(...request, '--dataset', 'acme-a/x', '--with', 'verisons'), { code: 1, stderr: /at \/datasets\/0\/verisons: Unknown field/ }, 'the service knows the names')
  t.match(await cli(...request, '--dataset', 'acme-a/x', '--with', 'kmsKeyArns=x'), { code: 1, stderr: /at \/datasets\/0\/kmsKeyArns\/0/ })
})

t.test('VPC flags', async t => {
  const flags = ['--job', 'vpc', '--team', 'nlp', '--dataset', 'acmeco-datasets', '--duration', '3600']
  const vpc = ['--vpc', 'vpc-0123456789abcdef0', '--vpc-endpoint', 'vpce-0123456789abcdef0', '--vpc-source-ip', '10.0.12.0/24']
  t.match(await cli('policy', ...flags, ...vpc), { code: 0, stdout: /aws:SourceVpce/ })
  const arn = 'arn:aws:ec2:eu-west-1:111122223333:vpc/vpc-0123456789abcdef0'
  const both = [...flags, '--vpc-arn', arn, '--source-ip', '203.0.113.42']
  t.match(await cli('policy', ...both), { code: 0, stdout: /aws:SourceVpcArn/ })
  const question = ['--action', 's3:GetObject', '--object', 'acmeco-datasets/a']
  t.match(await cli('check', ...both, ...question, '--from-vpc-arn', arn), { code: 0 })
  t.match(await cli('check', ...both, ...question, '--from-ip', '203.0.113.42'), { code: 0 })
  t.match(await cli('check', ...both, ...question, '--from-vpc-arn', arn.replace('eu-west-1', 'us-east-1')), { code: 1 })
})

t.test('what is wrong with the command line is said before the service is asked', async t => {
  const file = join(home, 'broken.json')
  writeFileSync(file, '[1]')
  const cases: [string[], RegExp][] = [
    [[], /Give a command/],
    [['isue'], /no command isue/],
    [['issue', '--jop', 'x'], /--jop/],
    [['issue', 'stray'], /stray/],
    [['issue', '--duration', '3 hours'], /--duration 3 hours: give 3h/],
    [['issue', '--duration', '1.5h'], /--duration 1.5h/],
    [['issue', '--dataset', 'bucket/'], /the prefix is empty/],
    [['issue', '--dataset-key', 'bucket'], /--dataset-key bucket: give bucket\/key/],
    [['issue', '--dataset-key', 'bucket/train-*'], /give bucket\/key/],
    [['issue', '--with', 'versions', '--dataset', 'x'], /--with versions: give it after the entry/],
    [['issue', '--dataset', 'x', '--with', '=x'], /--with =x: give options/],
    [['issue', '--dataset', '/x'], /give bucket or bucket\/prefix/],
    [['issue', '--label', 'x'], /NAME=VALUE/],
    [['issue', '--request', file], /not a JSON object/],
    [['issue', '--request', join(home, 'none')], /ENOENT/],
    [['issue', '--issue-at', '2099-01-01T00:00:00Z', '--format', 'env'], /no credentials yet/],
    [['exec', '--job', 'x'], /wants a command/],
    [['exec', '--job', 'x', '--'], /wants a command/],
    [['exec', '--per-job', '--idempotency-key', 'x', '--', 'true'], /exclude each other/],
    [['complete'], /Give one grant/],
    [['complete', 'a', 'b'], /Give one grant/],
    [['complete', '../x'], /not the id of a grant/],
    [['complete', '--job', 'x'], /--job and --team together/],
    [['complete', '01k10xkgf0mxv8rz3c8e9h5t2d', '--job', 'x', '--team', 'y'], /not both/],
    [['check', '--action', 's3:GetObject', '--object', 'b'], /a grant’s id, or a request/],
    [['check', '01k10xkgf0mxv8rz3c8e9h5t2d'], /--action/],
    [['list', '--limit', 'many'], /--limit many/],
    [['list', '--limit', '0'], /--limit 0/]
  ]
  for (const [args, message] of cases) t.match(await cli(...args), { code: 2, stdout: '', stderr: message }, args.join(' '))
})

t.test('the environment', async t => {
  const tokenFile = join(home, 'token')
  const { JOBACCESS_TOKEN: token = '', ...env } = service.env
  writeFileSync(tokenFile, `${token}\n`)
  t.match(await runCli(t, ['list'], { ...env, JOBACCESS_TOKEN_FILE: tokenFile }), { code: 0 })
  writeFileSync(tokenFile, 'sec\nret')
  const cases: [Record<string, string>, RegExp][] = [
    [{ ...env, JOBACCESS_URL: '', JOBACCESS_TOKEN: token }, /JOBACCESS_URL is not set/],
    [env, /Neither JOBACCESS_TOKEN nor/],
    [{ ...env, JOBACCESS_TOKEN: token, JOBACCESS_TOKEN_FILE: tokenFile }, /both set/],
    [{ ...env, JOBACCESS_TOKEN: 'sec\nret' }, /JOBACCESS_TOKEN: the token is empty, or has characters/],
    [{ ...env, JOBACCESS_TOKEN_FILE: tokenFile }, /JOBACCESS_TOKEN_FILE: the token is empty, or has characters/],
    [{ ...env, JOBACCESS_TOKEN_FILE: join(home, 'none') }, /JOBACCESS_TOKEN_FILE: ENOENT/],
    [{ ...env, JOBACCESS_URL: 'http://job-access.test', JOBACCESS_TOKEN: token }, /must be https/],
    [{ ...service.env, JOBACCESS_ALLOW_HTTP: 'yes' }, /neither true nor false/],
    [{ ...service.env, JOBACCESS_DEADLINE_SECONDS: '1m' }, /not a number of seconds/]
  ]
  for (const [given, message] of cases) {
    const ran = await runCli(t, ['list'], given)
    t.match(ran, { code: 2, stderr: message }, String(message))
    t.notMatch(ran.stderr, /sec\nret/)
  }
  t.match(await runCli(t, ['list'], { ...service.env, JOBACCESS_TOKEN: 'unknown' }), { code: 1, stderr: /unauthenticated/ })
  t.ok(readConfig({ ...service.env, PORT: '0' }), 'the service starts in the environment of its CLI')
  t.strictSame(Object.keys(variables).filter(name => name.startsWith('JOB_ACCESS_')), [])
})

t.test('nobody there: 3', async t => {
  const other = await startService(t)
  await other.stop()
  const env = { ...other.env, JOBACCESS_DEADLINE_SECONDS: '1' }
  t.match(await runCli(t, ['complete', '01k10xkgf0mxv8rz3c8e9h5t2d'], env), { code: 3, stderr: /ECONNREFUSED/ })
})

t.test('help', async t => {
  for (const args of [['help'], ['--help'], ['exec', '--help']]) t.match(await cli(...args), { code: 0, stdout: /exit codes/ })
  const { stdout } = await cli('help')
  for (const name of [...Object.keys(variables), 'credential-process', '--grant-file', '--per-job', '--attempt', '--replace', '--source observed']) t.ok(stdout.includes(name), name)
})
