import type { Way } from '../iam/dialects/file.ts'
import { absent, documentOf, type Context, type Judged, type Lane } from './context.ts'
import { attach, passed, pollMs, secondThoughtMs } from './effect.ts'
import { openUser } from './lanes.ts'
import { everything, keys, onlyMine, readOf, widenings } from './questions.ts'
import { removePolicy, removeUser, type Scratch } from './scratch.ts'
import type { Called } from './store.ts'

/** What a key cannot do: give itself more, outlive its deletion, or pass a boundary. */

/** Last, as it ends a lane: whether the key can give itself more, and how long a deleted one goes on. */
export const askKey = async (context: Context, way: Way, [lane]: Lane[]): Promise<void> => {
  const { store, scratch, scene, note, found, now, pause, patienceMs } = context
  if (!lane) return
  if (way === 'session') {
    const UserName = scratch.name('-wider')
    const created = await scratch.make('CreateUser', { UserName }, () => removeUser(scratch.store, UserName), lane.key)
    note({ id: 'widen CreateUser', way, asks: 'a key may not call CreateUser', ...mustFail(created) })
    if (!found.findings.some(({ id, verdict }) => id === 'no-role' && verdict === 'yes')) return
    const next = { RoleSessionName: 'ja-doctor', DurationSeconds: 900, Policy: documentOf(...everything(scene)) }
    const assumed = await store.call('AssumeRole', next, lane.key)
    return note({ id: 'widen AssumeRole', way, asks: 'a key may not call AssumeRole', ...mustFail(assumed) })
  }
  const UserName = scratch.name(`-${way}-0`)
  await attach(context, lane, [])
  const document = documentOf(...everything(scene))
  const wider = await scratch.make('CreatePolicy', { PolicyName: `${UserName}-all`, Path: scratch.path, PolicyDocument: document },
    output => removePolicy(scratch.store, `${UserName}-all`, output?.Policy?.Arn, UserName))
  for (const [operation, inputOf] of widenings) {
    if ((operation === 'AttachUserPolicy' && !wider.ok) || (operation === 'DeleteUserPolicy' && way === 'managed')) continue
    const input = inputOf(UserName, document, (wider.ok && wider.output.Policy?.Arn) || '')
    const called = await scratch.make(operation, input, async output => {
      if (operation === 'CreateUser') return removeUser(scratch.store, `${UserName}-wider`)
      return operation === 'CreatePolicy' ? removePolicy(scratch.store, `${UserName}-wider`, output?.Policy?.Arn) : null
    }, lane.key)
    note({ id: `widen ${operation}`, way, asks: `a key may not call ${operation}`, ...mustFail(called) })
  }
  const asks = 'a deleted key is dead'
  const deleted = await store.call('DeleteAccessKey', { UserName, AccessKeyId: lane.key.accessKeyId })
  if (!deleted.ok) return note({ id: 'deleted-key', way, asks, verdict: 'no', detail: deleted.code })
  const begun = now()
  while (await passed(store, readOf(scene, lane.last ?? ''), lane.key)) {
    if (now() > begun + patienceMs) return note({ id: 'deleted-key', way, asks, verdict: 'open', detail: 'it works on' })
    await pause(pollMs)
  }
  found.times[`deletedKeyMs@${way}`] = now() - begun
  note({ id: 'deleted-key', way, asks, verdict: 'yes' })
}

/** A call that is refused for another reason than the key was let through to where that reason counts, or is none. */
const mustFail = (called: Called): Judged => called.ok
  ? { verdict: 'open' }
  : absent(called) || called.status === 403 || called.status === 401
    ? { verdict: 'yes' }
    : { verdict: 'untried', detail: called.code }

/** A user whose policy allows more than its boundary does. */
export const askBoundary = async (context: Context, opened: Array<{ way: Way }>): Promise<void> => {
  const { store, scratch, scene, note, found, now, pause } = context
  const asks = 'a permissions boundary limits what a policy allows'
  const has = (id: string) => found.findings.some(finding => finding.id === id && finding.verdict === 'yes')
  if (!has('boundaries') || !has('managed')) return note({ id: 'boundary', asks, verdict: 'no', detail: 'users keep none' })
  const name = scratch.name('-limit')
  const limit = await scratch.make('CreatePolicy', { PolicyName: name, Path: scratch.path, PolicyDocument: documentOf(...onlyMine(scene)) },
    output => removePolicy(scratch.store, name, output?.Policy?.Arn))
  const way = opened[0]?.way === 'managed' ? 'managed' : 'inline'
  const lane = await openUser({ ...context, scratch: boundedBy(scratch, limit) }, way, 99)
  if (!lane) return note({ id: 'boundary', asks, verdict: 'untried', detail: 'no user could be made' })
  const failed = await attach(context, lane, everything(scene))
  if (failed !== null) return note({ id: 'boundary', asks, verdict: failed.startsWith('refused') ? 'refused' : 'shut', detail: failed })
  const until = now() + (context.enforcing ? secondThoughtMs : 0)
  while (await passed(store, readOf(scene, keys.theirs), lane.key)) {
    if (now() >= until) return note({ id: 'boundary', asks, verdict: 'open' })
    await pause(pollMs)
  }
  note({ id: 'boundary', asks, verdict: await passed(store, readOf(scene, keys.mine), lane.key) ? 'yes' : 'shut' })
}

const boundedBy = (scratch: Scratch, limit: Called): Scratch => ({
  ...scratch,
  make: (operation, input, undo) => scratch.make(operation, operation === 'CreateUser'
    ? { ...input, PermissionsBoundary: limit.ok ? limit.output.Policy?.Arn : undefined }
    : input, undo)
})
