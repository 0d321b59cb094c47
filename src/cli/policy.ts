import type { Question } from '../client/index.ts'
import { UsageError, exit, note, print, type Command } from './command.ts'
import { parseRequestArgs, policyFlags, policyRequest } from './request.ts'
import { clientOf } from './settings.ts'

/** The policy alone goes to stdout, so that it can be piped; what it means goes beside it. */
export const policy: Command = async (args, io) => {
  const { values } = parseRequestArgs({
    args, options: { ...policyFlags, preflight: { type: 'boolean' }, explain: { type: 'boolean' }, full: { type: 'boolean' } }
  })
  const rendered = await clientOf(io).policy(await policyRequest(values, io), { preflight: values.preflight ?? false })
  if (values.full) print(io, rendered)
  else if (values.explain) for (const { sid, effect, text } of rendered.explanation) io.out(`${effect}  ${sid}: ${text}\n`)
  else print(io, rendered.policy)
  for (const { code, detail } of rendered.warnings) note(io, `warning ${code}: ${detail}`)
  return exit.ok
}

const text = { type: 'string' } as const
const questionFlags = {
  action: text,
  object: text,
  'list-prefix': text,
  'from-ip': text,
  at: text,
  'from-vpc': text,
  'from-vpc-arn': text,
  'from-vpc-endpoint': text,
  'from-vpc-ip': text,
  'copy-source': text,
  'kms-key': text,
  acl: text
} as const

/** Exit 0: allowed; 1: denied. Of a grant, or of a request that was not issued. */
export const check: Command = async (args, io) => {
  const { values, positionals } = parseRequestArgs({
    args, allowPositionals: true, options: { ...policyFlags, ...questionFlags, json: { type: 'boolean' } }
  })
  const [id, ...more] = positionals
  const asksRequest = Object.keys(policyFlags).some(name => name in values)
  if (more.length > 0 || (id !== undefined) === asksRequest) {
    throw new UsageError('check wants a grant’s id, or a request by --request and flags.')
  }
  const question = questionOf(values)
  const client = clientOf(io)
  const verdict = id === undefined
    ? await client.checkPolicy({ request: await policyRequest(values, io), question })
    : await client.check(id, question)
  if (values.json) print(io, verdict)
  else io.out(`${verdict.decision}: ${verdict.because}\n`)
  return verdict.allowed ? exit.ok : exit.refused
}

const questionOf = (values: { [name in keyof typeof questionFlags]?: string }): Question => {
  const [, bucket, key] = /^(?:s3:\/\/)?([^/]+)(?:\/(.+))?$/s.exec(values.object ?? '') ?? []
  if (values.action === undefined || bucket === undefined) {
    throw new UsageError('check wants --action s3:… and --object bucket or bucket/key.')
  }
  return {
    action: values.action,
    bucket,
    ...(key !== undefined && { key }),
    ...(values['list-prefix'] !== undefined && { prefix: values['list-prefix'] }),
    ...(values['from-ip'] !== undefined && { sourceIp: values['from-ip'] }),
    ...(values.at !== undefined && { at: values.at }),
    ...(values['from-vpc'] !== undefined && { vpcId: values['from-vpc'] }),
    ...(values['from-vpc-arn'] !== undefined && { vpcArn: values['from-vpc-arn'] }),
    ...(values['from-vpc-endpoint'] !== undefined && { vpcEndpointId: values['from-vpc-endpoint'] }),
    ...(values['from-vpc-ip'] !== undefined && { vpcSourceIp: values['from-vpc-ip'] }),
    ...(values['copy-source'] !== undefined && { copySource: values['copy-source'].replace(/^s3:\/\//, '') }),
    ...(values['kms-key'] !== undefined && { kmsKeyArn: values['kms-key'] }),
    ...(values.acl !== undefined && { acl: values.acl })
  }
}
