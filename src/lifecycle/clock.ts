import type { DatedAnswer } from '../iam/client.ts'
import { ProblemError } from '../problems.ts'

/**
 * Whether the clock of this machine is right. A replica whose clock is ahead would end grants that go on, for all replicas, and give
 * windows that the provider, which judges them by its own clock, opens too late.
 *
 * Each answer with a date bounds the difference: they wrote it after we asked and before we heard it, and left out a part of a second. It
 * is kept against performance.now(), which no step of the clock moves: so a step shows without another answer. Of the last answers the
 * one counts that lets the difference be smallest: not a slow one, and not that of one wrong server.
 *
 * The provider decides. The database's clock counts while the provider has dated nothing: it may be this machine's own.
 */
export interface Clocks {
  /** Epoch ms: by this machine's clock or, while that is wrong, by the one that says so. So ends go on, and judge no window falsely. */
  now: () => number
  /** Null: it is right as far as anybody has said. Asks nobody. */
  wrong: () => WrongClock | null
  /** Asks those whose last answer is a minute old, or who contradict. Rejects while the clock is wrong, or nobody answers at all. */
  check: () => Promise<void>
  /** How far this machine's clock is ahead, in ms, as near as the answers tell; absent: nothing was heard. */
  ahead: () => Partial<Record<Reference, number>>
}

export type Reference = 'provider' | 'ledger'
export interface WrongClock { reference: Reference, aheadMs: number }

interface ClocksOptions {
  /** What the operations on grants take for this machine's clock. */
  ours: () => number
  /** This machine's clock, epoch ms, and one that is never set. */
  wall: () => number
  monotonic: () => number
  /** How far apart clocks may be; 0: they are not compared. */
  mostMs: number
  /** Brings a dated answer, unless it has none. Rejects without an answer. */
  ask: Record<Reference, () => Promise<unknown>>
  /** Their answers, the newest last. Those that do not count any more are removed. */
  heard: Record<Reference, DatedAnswer[]>
  changed: (wrong: WrongClock | null) => void
}

export class WrongClockError extends Error {
  override name = 'WrongClockError'
  constructor (wrong: WrongClock) { super(saying(wrong)) }
}

const kept = 3
const freshMs = 60_000

export const watchClocks = ({ ours, wall, monotonic, mostMs, ask, heard, changed }: ClocksOptions): Clocks => {
  const references: Reference[] = ['provider', 'ledger']
  let told = false

  /** Their clock less the monotonic one: at least, and at most. */
  const bounds = ({ theirs, precisionMs, askedAt, heardAt }: DatedAnswer) =>
    ({ least: theirs - heardAt, most: theirs + precisionMs - askedAt })
  const nearest = (reference: Reference): { certainMs: number, theirs: number } | undefined => {
    const drift = wall() - monotonic()
    const judged = heard[reference].map(bounds).map(({ least, most }) => ({
      certainMs: Math.max(0, drift - most, least - drift), theirs: (least + most) / 2, width: most - least
    }))
    if (judged.length === 0) return undefined
    return {
      certainMs: Math.min(...judged.map(({ certainMs }) => certainMs)),
      theirs: judged.reduce((a, b) => b.width <= a.width ? b : a).theirs
    }
  }
  const judge = () => {
    // Also of the one that does not decide now: it is asked as often.
    for (const name of references) heard[name].splice(0, heard[name].length - kept)
    const reference = references.find(name => heard[name].length > 0)
    const found = reference && nearest(reference)
    // What was wrong is right again only when it is clearly so: the state must not change with every answer.
    const isWrong = found !== undefined && mostMs > 0 && found.certainMs > (told ? mostMs / 2 : mostMs)
    const judgement = isWrong && reference ? { reference, theirs: found.theirs, aheadMs: wall() - monotonic() - found.theirs } : null
    if ((judgement !== null) !== told) {
      told = judgement !== null
      changed(judgement)
    }
    return judgement
  }
  const isStale = (reference: Reference) => monotonic() - (heard[reference].at(-1)?.heardAt ?? -Infinity) >= freshMs

  return {
    now () {
      const judgement = judge()
      return judgement ? Math.floor(monotonic() + judgement.theirs) : ours()
    },
    wrong: judge,
    async check () {
      if (mostMs === 0) return
      const isWrong = judge() !== null
      const asked = references.filter(name => isWrong || isStale(name))
      const failed = (await Promise.allSettled(asked.map(name => ask[name]()))).find(({ status }) => status === 'rejected')
      const wrong = judge()
      if (wrong) throw new WrongClockError(wrong)
      if (failed?.status === 'rejected' && references.every(name => heard[name].length === 0)) throw failed.reason
    },
    ahead: () => Object.fromEntries(references.flatMap(name => {
      const found = nearest(name)
      return found ? [[name, wall() - monotonic() - found.theirs]] : []
    }))
  }
}

/** By a wrong clock nothing is issued, changed or swept. Who asks for the end of a grant gets it. @throws ProblemError `clock-wrong` */
export const requireClock = ({ clock }: { clock: Pick<Clocks, 'wrong'> }): void => {
  const wrong = clock.wrong()
  if (wrong) throw new ProblemError('clock-wrong', { detail: saying(wrong), retryAfterSeconds: 30 })
}

export const saying = ({ reference, aheadMs }: WrongClock): string =>
  `The service’s clock is ${apart(aheadMs)} ${aheadMs > 0 ? 'ahead of' : 'behind'} that of ${names[reference]}.`

const names: Record<Reference, string> = { provider: 'the provider', ledger: 'the ledger’s database' }

/** `2 h 3 min 4 s`. */
const apart = (ms: number): string => {
  const seconds = Math.round(Math.abs(ms) / 1000)
  const parts = [[Math.floor(seconds / 3600), 'h'], [Math.floor(seconds / 60) % 60, 'min'], [seconds % 60, 's']] as const
  return parts.filter(([value, unit]) => value > 0 || (unit === 's' && seconds === 0)).map(([value, unit]) => `${value} ${unit}`).join(' ')
}
