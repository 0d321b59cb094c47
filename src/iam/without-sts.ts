import type { Iam } from './client.ts'
import { IamError, isAnswered, isIamError } from './errors.ts'
import type { PrincipalProvisioner } from './principal.ts'

/**
 * For SeaweedFS: with an STS configuration its policies are evaluated by an engine that knows no aws:CurrentTime (4.48), so that the
 * window of a `guarded` policy never closes. Whether there is one GetCallerIdentity tells: without, it is a 503. Nothing is issued
 * there, and the service is not ready.
 */
export const withoutSts = (principals: PrincipalProvisioner, iam: Pick<Iam, 'callerIdentity'>, now: () => number): PrincipalProvisioner => {
  let absentUntil = 0

  /** No answer proves nothing: it is asked again, with more patience, until there is one. */
  const refuseSts = async (until: number): Promise<void> => {
    let unanswered: unknown
    for (let patience = probeMs; ; patience *= 2) {
      try {
        await iam.callerIdentity(undefined, Math.min(until, now() + patience))
      } catch (error) {
        if (isAbsence(error)) return
        // Between two tries the deadline may pass, and then nothing is asked: what was not answered is the reason.
        if (isIamError(error, 'throttled')) throw unanswered ?? error
        unanswered = error
        if (isIamError(error, 'unavailable') && now() < until) continue
        throw error
      }
      throw new IamError('unsupported', 'GetCallerIdentity', 'StsConfigured', undefined)
    }
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

/** The server itself said that it has none. A refusal of our credentials is an STS's. */
const isAbsence = (error: unknown): boolean => isIamError(error, 'unsupported') || (isIamError(error, 'unavailable') && isAnswered(error))

const probeMs = 300
const believedMs = 60_000
