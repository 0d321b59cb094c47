import fc from 'fast-check'
import t from 'tap'
import { decodeTime, isValid } from 'ulid'
import { expiryOfName, expiryOfPath, jobTag, newGrantId, principalName, principalPath } from '../../src/iam/names.ts'

const id = '01k00000000000000000000000'
const end = Date.parse('2025-07-16T04:00:00Z')

t.test('an id has its time first, and each of its other characters is at random', async t => {
  const before = Date.now()
  const ids = Array.from({ length: 2_000 }, newGrantId)
  for (const [index, one] of ids.entries()) {
    const at = decodeTime(one)
    if (!(at >= before && at <= Date.now() && isValid(one))) t.fail(`${index}: ${one}`)
  }
  t.equal(new Set(ids).size, ids.length)
  // 2,000 draws miss one of 32 digits with a probability of 10^-25.
  for (let place = 10; place < 26; place++) t.equal(new Set(ids.map(one => one[place])).size, 32, `character ${place}`)
})

t.test('a name says job, end and grant', async t => {
  const cases: Array<[string, string]> = [
    ['wiki-finetune-42', 'ja-wiki-finetune-42-20250716t040000z-01k00000000000000000000000'],
    ['Wiki_Finetune', 'ja-wiki-finetune-20250716t040000z-01k00000000000000000000000'],
    ['manual__2025-07-16T01:00:00+00:00', 'ja-manual-2025-07-16-20250716t040000z-01k00000000000000000000000'],
    ['@@@', 'ja-20250716t040000z-01k00000000000000000000000']
  ]
  for (const [job, name] of cases) t.equal(principalName('ja', job, end, id), name)
})

t.test('for any job: at most 64 characters, IAM’s alphabet, lower case, the id whole at the end, the end readable', async t => {
  fc.assert(fc.property(
    fc.string({ minLength: 1, maxLength: 128, unit: 'binary' }), fc.stringMatching(/^[a-z0-9]{1,12}$/), fc.integer({ min: 0, max: 253402300799 }),
    (job, prefix, seconds) => {
      const name = principalName(prefix, job, seconds * 1000, id)
      return name.length <= 64 && /^[a-z0-9-]+$/.test(name) && name.endsWith(`-${id}`) && expiryOfName(prefix, name) === seconds * 1000
    }))
})

t.test('two grants never share a name, however the jobs are spelled', async t => {
  const other = '01k00000000000000000000001'
  t.not(principalName('ja', 'Job', end, id), principalName('ja', 'job', end, other))
  t.equal(principalName('ja', 'JOB', end, id), principalName('ja', 'job', end, id), 'case alone makes no new name: the id does')
})

t.test('a path tells the end, and nothing else passes for ours', async t => {
  t.equal(principalPath('/job-access/', end), '/job-access/1752638400/')
  t.equal(expiryOfPath('/job-access/', '/job-access/1752638400/'), end)
  t.equal(expiryOfPath('/job-access/', principalPath('/job-access/', end + 1)), end + 1000, 'never before the end')
  for (const path of ['/', '/job-access/', '/job-access/x/', '/job-access/1/2/', '/other/1752638400/', '/job-access/1752638400']) {
    t.equal(expiryOfPath('/job-access/', path), undefined, path)
  }
  for (const name of ['admin', 'ja-x', `jax-20250716t040000z-${id}`, `ja-20250716t040000z-${id}x`]) t.equal(expiryOfName('ja', name), undefined, name)
})

t.test('a job id as a tag: within the characters of tags, the same as before where it can be, and never that of another job', async t => {
  for (const id of ['wiki-finetune-42', 'a/b@c=d+e:f', 'a=5B']) t.equal(jobTag(id), id)
  t.equal(jobTag('job[3]'), '=job=5B3=5D')
  t.equal(jobTag('a=b c'), '=a=3Db=20c')
  const id = fc.tuple(fc.constantFrom('a', '0', 'Z'), fc.string({ unit: fc.constantFrom(...'aB5DE0=[]# %_-*?$'), maxLength: 12 })).map(parts => parts.join(''))
  fc.assert(fc.property(id, id, (one, other) => {
    const tag = jobTag(one)
    return /^[A-Za-z0-9 _.:/=+@-]{0,256}$/.test(tag) && (tag === jobTag(other)) === (one === other)
  }), { numRuns: 5000 })
})
