import { retry, systemClock, type Clock } from './retry.ts'
import type { Iam } from './client.ts'
import { IamError, isIamError, statusOf } from './errors.ts'
import type { PrincipalProvisioner } from './provisioner.ts'

/**
 * For SeaweedFS: with an STS configuration another engine evaluates its policies, which does not know aws:CurrentTime (4.48), so that
 * the window of a `guarded` policy never closes. GetCallerIdentity tells whether there is an STS: without one, the answer is 503.
 * With an STS nothing is issued, and the service is not ready.
 */
export const withoutSts = (
  provisioner: PrincipalProvisioner, iam: Pick<Iam, 'callerIdentity'>, clock: Clock = systemClock
): PrincipalProvisioner => {
  let absentUntil = 0

  /**
   * No answer proves nothing: it is asked again, with more patience, until there is one. A probe's deadline is shorter than the
   * caller's, so that no failure of a probe is final but a refusal.
   */
  const refuseSts = (until: number): Promise<void> => {
    let patience = probeMs / 2
    return retry(async () => {
      patience *= 2
      try {
        await iam.callerIdentity(undefined, Math.min(until, clock.now() + patience))
      } catch (error) {
        if (isAbsence(error)) return
        throw error
      }
      throw new IamError('unsupported', 'GetCallerIdentity', 'StsConfigured', undefined)
    }, { until, clock, waitAfter: error => isIamError(error, 'unavailable', 'throttled', 'conflict') ? pauseMs : undefined })
  }

  return {
    ...provisioner,
    async create (plan, until) {
      if (clock.now() >= absentUntil) await refuseSts(until)
      const made = await provisioner.create(plan, until)
      absentUntil = clock.now() + believedMs
      return made
    },
    async ping (until) {
      await refuseSts(until)
      await provisioner.ping(until)
    }
  }
}

/** For the metrics: the answer that is wanted here must not look like a provider that is down. */
export const countedAbsence = <Call extends { operation: string, outcome: string, status?: number }>(call: Call): Call =>
  call.operation === 'GetCallerIdentity' && call.outcome === 'unavailable' && (call.status ?? 0) >= 500
    ? { ...call, outcome: 'unsupported' }
    : call

/** The server itself said that it has no STS. A refusal of our credentials comes from an STS. */
const isAbsence = (error: unknown): boolean =>
  isIamError(error, 'unsupported') || (isIamError(error, 'unavailable') && (statusOf(error) ?? 0) >= 500)

const probeMs = 300
const pauseMs = 50
const believedMs = 60_000
