import t from 'tap'
import { compile, decide, evaluate, type IamRequest } from '../../../src/policy/prove/evaluate.ts'
import { intention, passes, requiredDenies } from '../../../src/policy/prove/intent.ts'
import { prove } from '../../../src/policy/prove/prove.ts'
import type { AccessSpec } from '../../../src/domain/access-spec.ts'
import { examples } from './examples.ts'
import { mutants } from './mutations.ts'
import { randomRequest } from './random-requests.ts'
import { seeded } from './seeded.ts'

/** Whether a request must be denied explicitly. */
const explicitly = (spec: AccessSpec, { action, context }: IamRequest) =>
  requiredDenies(spec).some(deny => passes(deny.action, action.toLowerCase()) && Object.entries(deny.context).every(([key, test]) => {
    const value = context[key]
    return passes(test, typeof value === 'string' ? value : undefined)
  }))

/** Changes after which a policy still says what was asked. */
const equivalents: Record<string, string[]> = {
  // It is no action: S3 checks s3:PutObject when an upload is completed.
  'the guide': ['FinetunedModelsWrite: s3:CompleteMultipartUpload dropped'],
  // The output lies in the same bucket, and its statement lasts longer.
  'window and source on every Allow': ['Wikipedia: s3:GetBucketLocation dropped'],
  // The job writes to the same bucket for longer.
  // Another statement allows it already, or the condition is fulfilled by the same requests.
  'every option': [
    'Names: s3:ListBucket added', 'Names: s3:ListBucketVersions added', 'Out: s3:ListBucketMultipartUploads added', 'OutAcl: s3:PutObject added',
    'OutAcl: s3:PutObjectTagging added', 'OutAcl: StringLike to StringEquals'
  ],
  'entries that share statements': ['Shards: s3:GetBucketLocation dropped'],
  // The Deny reaches over what is not allowed anyway: other keys of the output's bucket, and buckets whose names go on.
  'window and source in Denies': [
    'ReadsAfter: arn:aws-cn:s3:::runs to arn:aws-cn:s3:::runs*',
    'ReadsAfter: arn:aws-cn:s3:::runs/42/* to arn:aws-cn:s3:::runs/42*',
    'ReadsAfter: arn:aws-cn:s3:::runs/42/* to arn:aws-cn:s3:::runs/*',
    'ReadsAfter: arn:aws-cn:s3:::runs/42/* to arn:aws-cn:s3:::runs/*'
  ]
}

// Every mutant that a request can tell from what was asked is refused. What is left says the same in other words.
for (const { name, spec, policy } of examples) {
  t.test(name, async t => {
    t.equal(prove(policy, spec).ok, true, 'the policy itself is proven')
    const intends = intention(spec)
    const survivors: string[] = []
    let refused = 0
    for (const mutant of mutants(policy)) {
      const proof = prove(mutant.policy, spec)
      if (proof.ok) {
        survivors.push(mutant.what)
        const draw = seeded(survivors.length)
        const statements = compile(mutant.policy)
        for (let i = 0; i < 500; i++) {
          const request = randomRequest(draw, spec)
          const { allowed } = decide(statements, request)
          if (allowed !== intends(request)) t.fail(`${mutant.what} is proven, and wrong`, { request, allowed })
        }
        continue
      }
      refused++
      if (proof.counterexample === undefined) continue
      const { request, wanted, got } = proof.counterexample
      const again = evaluate(mutant.policy, request)
      const differs = again.allowed !== intends(request) || (explicitly(spec, request) && again.kind !== 'explicit-deny')
      if (!differs || wanted !== intends(request) || got.kind !== again.kind) t.fail(`no counterexample to ${mutant.what}`, proof.counterexample)
    }
    t.ok(refused > 80, `${refused} mutants refused`)
    // A Deny may name more than it needs: more actions or resources, as long as nothing that was asked for is among them.
    // Wrong merges that change nothing: those of equal rights, and resources that none of the actions takes.
    const single = survivors.filter(what => !/ of \w+$/.test(what))
    const inAllow = single.filter(what => policy.Statement.find(({ Sid }) => what.startsWith(`${Sid}:`))?.Effect === 'Allow')
    const inDeny = single.filter(what => !inAllow.includes(what) && !/ added$/.test(what))
    t.same([...inAllow, ...inDeny], equivalents[name] ?? [], 'only these changes change nothing')
  })
}

t.test('wrong merges are refused: rights, windows, prefixes and resources of different entries do not mix', async t => {
  const example = examples.find(({ name }) => name === 'entries that share statements')
  if (example === undefined) throw new Error('no example')
  const all = new Map([...mutants(example.policy)].map(({ what, policy }) => [what, policy]))
  const wrong = [
    // What is read would be written, and the reverse.
    'Shards: resources of Run', 'Shards: actions of Run', 'Run: resources of Shards', 'Run: actions of Shards', 'Run: actions and resources of Shards',
    // Reads would last as long as writes, and the reverse.
    'Shards: conditions of Run', 'Run: conditions of Shards', 'ShardsList: conditions of RunList',
    // Every listing would be allowed: one without its prefix, under the prefixes of others, in buckets of others.
    'Shards: actions of ShardsList', 'ShardsList: conditions of Shards', 'ShardsList: conditions of TwoList', 'TwoList: resources of ShardsList',
    // One of many is missing, wider, or another.
    'Shards: arn:aws:s3:::datasets/b/* dropped', 'Two: arn:aws:s3:::tokens/x/* dropped', 'TwoList: arn:aws:s3:::tokens dropped',
    'ShardsList: s3:prefix b/* dropped', 'ShardsList: s3:prefix b/* to *', 'ShardsList: s3:prefix b/* to b/', 'ShardsList: s3:prefix b/* to b*',
    'Shards: arn:aws:s3:::datasets/b/* to arn:aws:s3:::datasets/b*', 'Shards: arn:aws:s3:::datasets/b/* to arn:aws:s3:::datasets/*',
    'Two: arn:aws:s3:::tokens/x/* to arn:aws:s3:::another-bucket/x/*',
    // A key is not the beginning of keys, and the beginning of keys is not a directory.
    'Mixed: arn:aws:s3:::base/llama/model.bin to arn:aws:s3:::base/llama/model.bin*', 'MixedList: s3:prefix llama/model.bin to llama/model.bin*',
    'Mixed: arn:aws:s3:::base/shards/train-* to arn:aws:s3:::base/shards/train-', 'Key: arn:aws:s3:::base/vocab.json to arn:aws:s3:::base/vocab.json*'
  ]
  for (const what of wrong) {
    const policy = all.get(what)
    if (policy === undefined) t.fail(`no mutant: ${what}`)
    else t.equal(prove(policy, example.spec).ok, false, what)
  }
})
