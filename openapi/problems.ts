import { Type } from '@sinclair/typebox'
import { problemBody } from '../src/http/errors.ts'
import { unauthenticated } from '../src/identity/identity.ts'
import { normaliseRequest, renderAccess } from '../src/lifecycle/access.ts'
import { ProblemError, problems, type ProblemCode } from '../src/problems.ts'
import { guideRequest } from '../src/request.ts'
import { exampleIssuedAt, exampleRequestId, exampleRules } from './examples.ts'

/** The answer to every refused request. The service sends it without a schema (src/http/errors.ts); this describes it. */
export const ProblemSchema = Type.Object({
  type: Type.String({ examples: ['urn:job-access:problem:bucket-invalid'] }),
  title: Type.String(),
  status: Type.Integer(),
  code: Type.Unsafe<ProblemCode>({ type: 'string', enum: Object.keys(problems), description: 'Stable; see docs/errors.md.' }),
  detail: Type.String(),
  hint: Type.Optional(Type.String({ description: 'What to do about it.' })),
  pointer: Type.Optional(Type.String({ description: 'JSON pointer of the field.' })),
  requestId: Type.String(),
  errors: Type.Optional(Type.Array(Type.Object({
    code: Type.String(), pointer: Type.String(), detail: Type.String(), hint: Type.String()
  })))
}, { $id: 'Problem', description: 'RFC 9457 problem details.' })

/** The guide's request with one mistake each: the example of a finding is the answer to it. A test sends them all. */
export const mistakes: Partial<Record<ProblemCode, Record<string, unknown>>> = {
  'access-missing': { datasets: undefined, baseModels: undefined, output: undefined },
  'bucket-invalid': { baseModels: [{ bucket: 'arn:aws:s3:::acmeco-base-models' }] },
  'bucket-refused': { datasets: [{ bucket: 'payroll' }] },
  'prefix-invalid': { baseModels: [{ bucket: 'acmeco-base-models', prefix: 'llama/*' }] },
  'place-ambiguous': { baseModels: [{ bucket: 'acmeco-base-models', prefix: 'llama/', key: 'llama/model.safetensors' }] },
  'access-duplicate': { baseModels: [{ bucket: 'acmeco-base-models' }, { bucket: 'acmeco-base-models' }] },
  'sid-duplicate': { baseModels: [{ bucket: 'acmeco-base-models', sid: 'Models' }, { bucket: 'acmeco-adapters', sid: 'Models', list: false }] },
  'client-unfit': { baseModels: [{ bucket: 'acmeco-base-models', prefix: 'llama/', list: false, clients: ['pyarrow'] }] },
  'option-without-write': { access: [{ bucket: 'acmeco-scratch', level: 'read', delete: true }] },
  'option-without-read': { access: [{ bucket: 'acmeco-scratch', level: 'write', versions: true }] },
  'option-unfit': { access: [{ bucket: 'acmeco-scratch', keyPrefix: 'a', level: 'read', bareName: true }] },
  'kms-key-invalid': { output: { bucket: 'acmeco-finetuned-models', kmsKeyArns: ['arn:aws:kms:eu-west-1:111122223333:alias/models'] } },
  'kms-key-refused': {
    output: { bucket: 'acmeco-finetuned-models', kmsKeyArns: ['arn:aws:kms:eu-west-1:999999999999:key/1234abcd-12ab-34cd-56ef-1234567890ab'] }
  },
  'label-invalid': { job: { ...guideRequest.job, labels: { 'aws:cluster': 'a' } } },
  'time-invalid': { window: { notAfter: '2025-07-16T04:00:00' } },
  'window-invalid': { window: { notAfter: '2025-07-16T04:00:00Z', durationSeconds: 10800 } },
  'window-over': { window: { notAfter: '2025-07-15T04:00:00Z' } },
  'window-too-long': { window: { durationSeconds: 2_592_000 } },
  'lifetime-too-long': { window: { notBefore: '2025-08-14T00:00:00Z', durationSeconds: 172_800 } },
  'window-too-far': { window: { notBefore: '2025-12-01T00:00:00Z', durationSeconds: 10800 } },
  'source-missing': { sourceIps: undefined },
  'ip-invalid': { sourceIps: ['203.0.113.256'] },
  'ip-host-bits': { sourceIps: ['203.0.113.42/24'] },
  'ip-everyone': { sourceIps: ['0.0.0.0/0'] },
  'ip-too-wide': { sourceIps: ['203.0.0.0/8'] },
  'ip-private': { sourceIps: ['10.0.12.7'] },
  'vpc-incomplete': { sourceIps: undefined, vpc: { sourceIps: ['10.0.12.0/24'] } },
  'vpc-arn-invalid': { sourceIps: undefined, vpc: { vpcArns: ['arn:aws-cn:ec2:cn-north-1:111122223333:vpc/vpc-0123456789abcdef0'] } },
  'layout-unfit': { layout: 'guide', baseModels: [{ bucket: 'acmeco-base-models', prefix: 'llama/' }] },
  'policy-too-large': {
    attach: 'inline', datasets: Array.from({ length: 20 }, (_, index) => ({ bucket: `acmeco-training-dataset-${index + 1}` }))
  },
  'session-unfit': { attach: 'session' }
}

/** A problem as its caller reads it. */
export const problemExample = (code: ProblemCode) => {
  const problem = mistakes[code] ? refusalOf(mistakes[code]) : said[code] ?? new ProblemError(code)
  // Without undefined.
  return JSON.parse(JSON.stringify(problemBody(problem, exampleRequestId))) as ReturnType<typeof problemBody>
}

const refusalOf = (mistake: Record<string, unknown>): ProblemError => {
  try {
    renderAccess(exampleRules, normaliseRequest(exampleRules, { ...guideRequest, ...mistake }, exampleIssuedAt))
  } catch (problem) {
    if (problem instanceof ProblemError) return problem
    throw problem
  }
  throw new Error(`no mistake: ${JSON.stringify(mistake)}`)
}

const finding = (code: ProblemCode, pointer: string, detail: string = problems[code][1], hint: string = problems[code][2]) =>
  ProblemError.of([{ code, pointer, detail, hint }])

/** Problems that the check of the request does not find. */
const said: Partial<Record<ProblemCode, ProblemError>> = {
  unauthenticated: unauthenticated(),
  'request-invalid': finding('request-invalid', '/windows',
    'Unknown field in the body.', 'Remove it, or correct its name: the service ignores nothing.'),
  'source-unobserved': finding('source-unobserved', '/source',
    'The request came through a trusted proxy, which names no client in X-Forwarded-For.'),
  'dialect-unfit': finding('dialect-unfit', '/attach', 'tigris has no attach session.', 'Use one of: auto, managed.')
}
