import t from 'tap'
import { issue } from '../../src/lifecycle/issue.ts'
import { compose } from '../../src/compose.ts'
import { readConfig } from '../../src/config.ts'
import { bench, callerNamed, guideJob, silent } from '../harness.ts'

const tagsWith = async (setting: string, labels: Record<string, string>) => {
  const { iam, client } = await bench(t)
  const config = readConfig({ JOB_ACCESS_ABAC_TAGS: setting })
  const { deps, close } = await compose(config, { log: silent, overrides: { embedded: iam, iam: client } })
  await issue(deps, callerNamed('token:nlp', ['nlp']), { request: guideJob({ job: { id: 'job-1', team: 'nlp', labels } }) })
  await close()
  return [...iam.state.users][0]?.tags
}

t.test('without the setting, no tag has a name that a bucket policy may trust', async t => {
  const tags = await tagsWith('', { team: 'vision', 'cost-center': '4711' })
  t.match(tags, { 'job-label:team': 'vision', 'job-label:cost-center': '4711', 'job-access:team': 'nlp' })
  t.strictSame(Object.keys(tags ?? {}).filter(name => !/^job-(label|access):/.test(name)), [])
})

t.test('with it, team and job are what the service vouches for, whatever the labels say', async t => {
  t.match(await tagsWith('team,job', { team: 'vision', job: 'another' }), { team: 'nlp', job: 'job-1', 'job-label:team': 'vision' })
  t.equal((await tagsWith('team', {}))?.job, undefined)
})

t.test('a provider that keeps no tags cannot offer any', async t => {
  t.throws(() => readConfig({ JOB_ACCESS_ABAC_TAGS: 'team', JOB_ACCESS_PROVIDER: 'ceph', AWS_ENDPOINT_URL_IAM: 'http://127.0.0.1:1' }),
    { name: 'ConfigError', message: /JOB_ACCESS_ABAC_TAGS: ceph keeps no tags/ })
})
