import type { Iam } from './client.ts'
import { IamError } from './errors.ts'
import type { Principals } from './principal.ts'

/**
 * For SeaweedFS: with an STS configuration its policies are evaluated by an engine that knows no aws:CurrentTime (4.48), so that the
 * window of a `guarded` policy never closes. Whether there is one GetCallerIdentity tells: without, it is a 503. Nothing is issued
 * there, and the service is not ready.
 */
export const withoutSts = (principals: Principals, iam: Pick<Iam, 'callerIdentity'>, now: () => number): Principals => {
  let absentUntil = 0

  const refuseSts = async (until: number): Promise<void> => {
    try {
      await iam.callerIdentity(undefined, Math.min(until, now() + probeMs))
    } catch {
      return // No answer proves nothing, but neither does anything that is asked of such a server then succeed.
    }
    throw new IamError('unsupported', 'GetCallerIdentity', 'StsConfigured', undefined)
  }

  return {
    ...principals,
    async create (plan, until) {
      if (now() >= absentUntil) await refuseSts(until)
      const made = await principals.create(plan, until)
      absentUntil = now() + believedMs
      return made
    },
    async ping (until) {
      await refuseSts(until)
      await principals.ping(until)
    }
  }
}

const probeMs = 300
const believedMs = 60_000
