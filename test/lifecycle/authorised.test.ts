import t from 'tap'
import { normaliseRequest, proveAccess, renderAccess } from '../../src/lifecycle/access.ts'
import { provision } from '../../src/lifecycle/provision.ts'
import { deploymentWith, startOfTime } from '../harness.ts'
import { jobRequest } from './world.ts'

t.test('the order of the stages is held by their types', async t => {
  const deployment = deploymentWith()
  const normalised = normaliseRequest(deployment, jobRequest(), startOfTime)
  const rendered = renderAccess(deployment, normalised)
  // @ts-expect-error -- nobody asked the guardrails: a normalised request is not a permitted one
  const notAuthorised: Parameters<typeof proveAccess>[0] = rendered
  // @ts-expect-error -- a rendered policy is not a proven one
  const notProven: Parameters<typeof provision>[3] = rendered.policy
  t.ok(notAuthorised && notProven, 'tsc fails here if it ever takes them')
})
