import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { systemActor, type NewAuditEvent } from '../../src/audit/event.ts'
import { AuditUnavailable, type Audit } from '../../src/audit/log.ts'
import { answerTo, remoteAudit, type AuditQuestion } from '../../src/processes/remote-audit.ts'

const eventOf = (n: number): NewAuditEvent =>
  ({ requestId: `req-${n}`, actor: systemActor('test'), action: 'service.start', outcome: 'done', detail: {} })

/** A process and the primary, on a channel that is open when `open` resolves. */
const twoProcesses = (audit: Partial<Audit>, open: Promise<void> = Promise.resolve()) => {
  const questions: AuditQuestion[] = []
  const remote = remoteAudit(question => {
    // As the channel copies what it carries.
    const copied = structuredClone(question)
    questions.push(copied)
    void open.then(() => answerTo(audit as Audit, copied)).then(answer => remote.answered(structuredClone(answer)))
  })
  return { remote, questions }
}

t.test('what comes in one turn is one message, in the order of the calls; each learns its own outcome', async t => {
  const recorded: Array<string | null> = []
  const { remote, questions } = twoProcesses({
    record: async ({ requestId }) => {
      recorded.push(requestId)
      if (requestId === 'req-2') throw new AuditUnavailable('too long')
    }
  })
  const results = await Promise.allSettled([1, 2, 3].map(n => remote.record(eventOf(n))))
  t.same(results.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled'])
  t.match(results[1], { reason: new AuditUnavailable('too long') })
  await remote.record(eventOf(4))
  t.same(recorded, ['req-1', 'req-2', 'req-3', 'req-4'])
  t.same(questions.map(question => question.kind === 'record' && question.events.length), [3, 1])
})

t.test('nothing counts as recorded before the primary says so, and close() waits for it', async t => {
  const opened = Promise.withResolvers<void>()
  const { remote } = twoProcesses({ record: async () => {} }, opened.promise)
  const done: string[] = []
  const writing = remote.record(eventOf(1)).then(() => done.push('recorded'))
  const closing = remote.close().then(() => done.push('closed'))
  for (let turn = 0; turn < 10; turn++) await setImmediate()
  t.same([done, remote.state().waiting], [[], 1])
  opened.resolve()
  await Promise.all([writing, closing])
  t.same([done, remote.state().waiting], [['recorded', 'closed'], 0])
  await remote.close()
})

t.test('an answer that does not name an event does not count for it', async t => {
  const remote = remoteAudit(({ id }) => { remote.answered({ kind: 'audited', id, refusals: [null] }) })
  const results = await Promise.allSettled([remote.record(eventOf(1)), remote.record(eventOf(2))])
  t.same(results.map(({ status }) => status), ['fulfilled', 'rejected'])
  t.match(results[1], { reason: AuditUnavailable })
})

t.test('what the channel cannot carry is refused, and holds up nothing', async t => {
  const remote = remoteAudit(() => { throw new Error('could not be cloned') })
  await t.rejects(remote.record(eventOf(1)), new AuditUnavailable('could not be cloned'))
  await t.rejects(remote.check(), new AuditUnavailable('could not be cloned'))
  await remote.close()
})

t.test('a check is asked and answered as it is; without an audit, all is done', async t => {
  await twoProcesses({ check: async () => {} }).remote.check()
  await t.rejects(twoProcesses({ check: async () => { throw new Error('disk full') } }).remote.check(), new AuditUnavailable('disk full'))
  t.same(await answerTo(null, { kind: 'record', id: 7, events: [eventOf(1), eventOf(2)] }), { kind: 'audited', id: 7, refusals: [null, null] })
  t.same(await answerTo(null, { kind: 'check', id: 8 }), { kind: 'audited', id: 8, refusals: [null] })
})
