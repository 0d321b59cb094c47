import { setImmediate } from 'node:timers/promises'
import { genesis } from '../audit/chain.ts'
import type { NewAuditEvent } from '../audit/event.ts'
import { AuditUnavailable, messageOf, type Audit } from '../audit/log.ts'

/** The audit of all processes is one chain, which the primary writes. What it is told is durable before record() resolves, as ever. */

/** A process asks the primary to record these events, in this order, or whether an event could be recorded now. */
export type AuditQuestion = { kind: 'record', id: number, events: NewAuditEvent[] } | { kind: 'check', id: number }

export interface AuditAnswer {
  kind: 'audited'
  id: number
  /** Of each event, or of the check; null: done. */
  refusals: Array<string | null>
}

interface RemoteAudit extends Audit {
  answered: (answer: AuditAnswer) => void
}

interface Asker { resolve: () => void, reject: (error: Error) => void }

export const remoteAudit = (send: (question: AuditQuestion) => void): RemoteAudit => {
  const asked = new Map<number, Asker[]>()
  let unsent: Array<{ event: NewAuditEvent, asker: Asker }> = []
  let lastId = 0
  let waiting = 0
  let idle = Promise.withResolvers<void>()
  idle.resolve()

  const pending = () => {
    const { promise, ...asker } = Promise.withResolvers<void>()
    if (waiting++ === 0) idle = Promise.withResolvers<void>()
    return { promise, asker }
  }
  const ask = (question: { kind: 'record', events: NewAuditEvent[] } | { kind: 'check' }, askers: Asker[]) => {
    const id = ++lastId
    asked.set(id, askers)
    try {
      send({ ...question, id })
    } catch (error) {
      answered({ kind: 'audited', id, refusals: askers.map(() => messageOf(error)) })
    }
  }
  const answered = ({ id, refusals }: AuditAnswer) => {
    const askers = asked.get(id) ?? []
    asked.delete(id)
    for (const [index, { resolve, reject }] of askers.entries()) {
      const refusal = refusals[index]
      if (refusal === null) resolve()
      else reject(new AuditUnavailable(refusal ?? 'The primary did not say whether it was recorded.'))
    }
    waiting -= askers.length
    if (waiting === 0) idle.resolve()
  }
  /** The events of one turn of the event loop go in one message, since each message costs a system call here, and one for its answer. */
  const sendTogether = async () => {
    await setImmediate()
    const together = unsent
    unsent = []
    ask({ kind: 'record', events: together.map(({ event }) => event) }, together.map(({ asker }) => asker))
  }

  return {
    record (event) {
      const { promise, asker } = pending()
      if (unsent.push({ event, asker }) === 1) void sendTogether()
      return promise
    },
    check () {
      const { promise, asker } = pending()
      ask({ kind: 'check' }, [asker])
      return promise
    },
    answered,
    state: () => ({ head: genesis, writtenAt: 0, waiting, broken: undefined }),
    close: () => idle.promise
  }
}

/** The primary's answer. A refusal is made an AuditUnavailable again by the process that gets it. */
export const answerTo = async (audit: Audit | null, question: AuditQuestion): Promise<AuditAnswer> => {
  // All of them at once, so that they share one write.
  const done = question.kind === 'check' ? [check(audit)] : question.events.map(event => record(audit, event))
  const refusals = (await Promise.allSettled(done)).map(one => one.status === 'fulfilled' ? null : messageOf(one.reason))
  return { kind: 'audited', id: question.id, refusals }
}

const check = async (audit: Audit | null): Promise<void> => { await audit?.check() }
const record = async (audit: Audit | null, event: NewAuditEvent): Promise<void> => { await audit?.record(event) }
