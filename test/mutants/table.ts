/* eslint no-template-curly-in-string: off -- these are texts of the code */

/** A small, likely mistake, and the tests that must notice it. */
export interface Mutant {
  file: string
  /** What would be wrong then. */
  what: string
  /** Exact text, once in the file. */
  from: string
  to: string
  /** Run one after the other until one fails. */
  tests: string[]
  /** Why no test can tell it from the original. */
  equivalent?: string
}

type Row = [what: string, from: string, to: string, more?: Partial<Pick<Mutant, 'tests' | 'equivalent'>>]

const of = (file: string, tests: string[], rows: Row[]): Mutant[] =>
  rows.map(([what, from, to, more]) => ({ file: `src/${file}`, what, from, to, tests: tests.map(name => `test/${name}.test.ts`), ...more }))

export const mutants: Mutant[] = [
  // lifecycle
  ...of('lifecycle/issue.ts', ['lifecycle/issue'], [
    ['an operation in between is not noticed', 'claimed.version !== grant.version + 1', 'claimed.version < grant.version + 1'],
    ['a grant that changed in between stays claimed', 'decided before.\n    await release(deps, claimed)\n', 'decided before.\n'],
    ['a retry of the same attempt is refused', 'if (request.attempt === attempt) return\n', '']
  ]),
  ...of('lifecycle/redeliver.ts', ['lifecycle/issue', 'lifecycle/dying-keys', 'lifecycle/workers', 'lifecycle/session'], [
    ['what an operation that died left is forgotten', 'dueAt: dueAfter(grant, { ...rekeying, dyingKeys })', 'dueAt: dueAfter({ ...grant, dueAt: null }, { ...rekeying, dyingKeys })'],
    ['a stored policy that is wrong leaves what an earlier try made', 'await abandon(deps, actor, grant, cause, !resumed)', 'await abandon(deps, actor, grant, cause, true)'],
    ['a failed restart says that the window is the new one', '      ...accessOf(grant),\n', '']
  ]),
  ...of('lifecycle/rotate.ts', ['lifecycle/rotate', 'lifecycle/dying-keys', 'lifecycle/workers', 'lifecycle/issue'], [
    ['a rotation without overlap gives the grant back too early', 'claimedUntil: overlapSeconds === 0 ? rotating.claimedUntil : null', 'claimedUntil: null'],
    ['a failed rotation forgets who had its key', 'previousKeyDiesAt: null, deliveredAt }', 'previousKeyDiesAt: null, deliveredAt: null }']
  ]),
  ...of('lifecycle/dying-keys.ts', ['lifecycle/dying-keys', 'lifecycle/end'], [
    ['a key that a call may still make is not looked for at the end', 'grant.accessKeyId === null || grant.dyingKeys.some(({ id }) => id === null)', 'grant.accessKeyId === null'],
    ['a key counts as alive for an instant too long', 'now - since < settleMs &&', 'now - since <= settleMs &&'],
    ['the last look comes after the end of the wait', 'Math.min(since + settleMs, now + Math.max(soonMs, now - since))', 'now + Math.max(soonMs, now - since)'],
    ['looks come every five seconds', 'Math.max(soonMs, now - since)', 'soonMs'],
    ['late keys add up with every failure', 'keys.filter(({ id }) => id !== null), ...dying(', 'keys, ...dying('],
    ['the key that a failed operation made is not named', '[made, null], now)', '[null], now)'],
    ['a key that is certainly dead is looked for', '(id === null || !deleted.includes(id))', 'true'],
    ['a list proves that no call makes a key later', '(id === null || !deleted.includes(id))', '(id !== null && !deleted.includes(id))']
  ]),
  ...of('lifecycle/end.ts', ['lifecycle/end', 'lifecycle/workers', 'lifecycle/issue'], [
    ['what ended just before is ended once more', '  if (claimed.dueAt === null) return claimed\n', ''],
    ['a job waits for ever for a worker whose teardown is due', 'dueAt === null || (state === \'revoking\' && dueAt > deps.now())', 'dueAt === null || state === \'revoking\''],
    ['the name of a job is free while a worker’s key may live', 'left.every(({ idempotencyKey }) => idempotencyKey === null)', 'left.some(({ idempotencyKey }) => idempotencyKey === null)'],
    ['an ended grant has dying keys', 'dyingKeys: [], dueAt: null,', 'dueAt: null,'],
    ['failures before the end make the end wait', 'ending, attempts: 0, dueAt', 'ending, dueAt'],
    ['a try that reached some workers counts as a failure', 'progress ? 0 : job.attempts', 'job.attempts'],
    ['the job of a worker that is held waits longer than its lease', ', ...leases)', ')']
  ]),
  ...of('lifecycle/extend.ts', ['lifecycle/extend', 'lifecycle/workers', 'lifecycle/session', 'guardrails/grants'], [
    ['a worker that another operation holds counts as reached', '(claimedUntil === null && isSameWindow(spec.window, window))', 'isSameWindow(spec.window, window)'],
    ['failures of the change before make the next one wait', '{ ...wanted, attempts: 0, dueAt', '{ ...wanted, dueAt'],
    ['a worker whose issue died stays claimed', 'return release(deps, worker)', 'return worker'],
    ['a worker’s session may outlive the window that the ledger says', '    if (worker.attach === \'session\') refuseLess(worker, wanted)\n', ''],
    ['a start may be moved away from under a session', 'after.start > before.start && lastEnd > before.start', 'after.start > before.start && lastEnd > after.start'],
    ['the guardrails do not hear of the workers', ', ...(grant.maxWorkers !== null && { workers: grant.maxWorkers }) }', ' }'],
    ['a changed grant is due before its end', 'principal: extending.principal, dueAt: dueAfter(grant, extending), claimedUntil', 'principal: extending.principal, claimedUntil'],
    ['the principal of a scheduled grant is made before its time when a change of it failed', ', ...(scheduled && { dueAt }) }', ' }']
  ]),
  ...of('lifecycle/join.ts', ['lifecycle/workers', 'http/workers'], [
    ['the newest worker of a name is taken for the one that lives', 'await newest([\'pending\', \'active\', \'revoking\']) ?? await newest()', 'await newest()']
  ]),
  ...of('lifecycle/workers.ts', ['lifecycle/workers'], [
    ['a teardown that fails once more makes the job come back at once', '(claimed.state !== \'revoking\' && isReached(done))', 'isReached(done)'],
    ['a worker that was reached meanwhile stays claimed', 'claimed.dueAt === null ? claimed : await release(deps, claimed)', 'claimed']
  ]),
  ...of('lifecycle/pool.ts', ['lifecycle/pool'], [
    ['the ceiling of users is not that of the account', '...(attach !== \'session\' && { users })', ''],
    ['a failure that made something goes to the next account', 'cause.definite && cause.operation === first &&', ''],
    ['accounts that do not answer are as good as others', 'Number(b.isWell) - Number(a.isWell) || ', ''],
    ['a full account is tried', '.filter(({ room }) => room > 0)', '']
  ]),
  ...of('iam/accounts.ts', ['lifecycle/pool'], [
    ['grants from before the pool are in no account', '({ account = earlier }: PrincipalRef)', '({ account }: PrincipalRef)'],
    ['a refused role takes its whole account', 'refusedUntil.set(roleArn,', 'refusedUntil.set(\'\',']
  ]),
  ...of('lifecycle/lease.ts', ['lifecycle/lease', 'lifecycle/end', 'lifecycle/extend', 'lifecycle/rotate', 'lifecycle/issue'], [
    ['what cannot be changed stays claimed', '  await release(deps, grant)\n  throw inactive(grant)', '  throw inactive(grant)']
  ]),
  ...of('lifecycle/sweep.ts', ['lifecycle/sweep', 'lifecycle/dying-keys', 'lifecycle/workers'], [
    ['a grant is held while it waits for its turn', 'deps.leaseMs, 1, account)', 'deps.leaseMs, 2, account)'],
    ['the lease is not asked about before the work', ' || !isLeased(deps, grant)) return', ') return'],
    ['a pass goes on with what became due meanwhile', 'claimDue(now, deps.now() + deps', 'claimDue(deps.now(), deps.now() + deps'],
    ['a worker is always in the way of its job', 'Math.max(2 * deps.leaseMs, longestBackoffMs)', '5_000']
  ]),
  ...of('lifecycle/reconcile.ts', ['lifecycle/reconcile', 'lifecycle/dying-keys'], [
    ['keys are compared though the grant ended meanwhile', 'claimed.state === \'active\' ? await unknownTo(claimed) : []', 'await unknownTo(claimed)'],
    ['the key of an overlap dies in the comparison', 'const keep = [claimed.accessKeyId, claimed.previousKeyId].filter', 'const keep = [claimed.accessKeyId].filter'],
    ['users that need no call take a turn', '{ ...options, perSecond: Infinity }', 'options'],
    ['the end that a policy states is not asked for', 'ended ? undefined : await statedEnd(ref)', 'undefined'],
    ['a dry run deletes keys', 'if (dryRun || unknown.length === 0)', 'if (unknown.length === 0)']
  ]),
  ...of('lifecycle/authorise.ts', ['guardrails/grants', 'http/audit', 'lifecycle/workers'], [
    ['a worker’s token rotates the key of another', '(action === \'rotate\' || action === \'collect\')', 'action === \'collect\'']
  ]),
  // provisioning
  ...of('iam/user-provisioner.ts', ['iam/user-provisioner', 'lifecycle/end'], [
    ['of two policies of a grant only one is found', 'const most = policyVersions ? 1 : 2', 'const most = 1'],
    ['the policy in force is deleted with the old ones', '.filter(version => !version.isDefault)', ''],
    ['a key that is not listed survives a teardown', 'await prune(ref, { keep: [], known: keyIds }, until)', 'await prune(ref, { keep: [], known: [] }, until)'],
    ['a denied user counts as missing', 'if (isIamError(error, \'denied\')) return listedAt(ref, until)', 'if (isIamError(error, \'denied\')) return false'],
    ['the spare policy of a swap stays', '[ref.policyArn, otherNameOf(ref.policyArn)]', '[ref.policyArn]'],
    ['the end that somebody else’s policy states counts', '.filter(arn => isPolicyOf(ref, arn) || isUnderPath(arn))', ''],
    ['a failed issue is torn down while its key is being made', 'await allDone([put(ref, attachment, policy, until), withKey ? mint(ref, [], until) : null])', 'await Promise.all([put(ref, attachment, policy, until), withKey ? mint(ref, [], until) : null])']
  ]),
  ...of('iam/retry.ts', ['iam/retry'], [
    ['a try begins at the deadline', 'clock.now() + ms >= until) throw', 'clock.now() + ms > until) throw'],
    ['a late timer lets a try begin', 'if (clock.now() >= until) throw error', ''],
    ['only the last answer counts as lost', 'anyLost ||= lost', 'anyLost = lost'],
    ['an error of our role takes the whole deadline', 'isIamError(error, \'denied\') && hasTime(untilDenied, clock)', 'isIamError(error, \'denied\')'],
    ['the limit is tried again although nothing was removed', 'return pruned.length > 0 ? 0 : undefined', 'return 0'],
    ['a key whose answer was lost stays beside the next', 'const pruned = await prune()\n', 'const pruned = lost ? [] : await prune()\n'],
    ['a failure is told while the other call is under way', '  await Promise.allSettled(promises)\n', ''],
    ['a throttled probe is an error', '\'unavailable\', \'throttled\', \'conflict\']', '\'unavailable\', \'conflict\']']
  ]),
  ...of('iam/pace.ts', ['iam/pace'], [
    ['an issue that has begun waits behind others', 'begun && rank === 1 ? 0.5 : rank', 'rank'],
    ['a team with many jobs is served first', ' || (rankOf(one) === rankOf(best) && lastOf(one) < lastOf(best))', ''],
    ['the answers of one second cut the rate again and again', '    if (now - cutAt < holdMs) return\n', ''],
    ['a call waits after its deadline', '      expire(now)\n', ''],
    ['the deletion of a key waits behind issues', '    deleteKey: first(provisioner.deleteKey),\n', ''],
    ['the deletion of unknown keys waits behind issues', '    pruneKeys: first(provisioner.pruneKeys),\n', ''],
    ['a stray is removed before issues', 'discard: last(provisioner.discard)', 'discard: first(provisioner.discard)'],
    ['the rate never grows again', 'rate *= growth ** ((now - grownAt) / 1000)', 'rate *= 1'],
    ['a pause makes a burst', 'Math.max(nextAt, now - 100) + 1000 / rate', 'Math.max(nextAt, now - 10_000) + 1000 / rate'],
    ['a rotation is paced as nobody’s', 'mintKey: (plan, keep, until) => turns.run(of(plan), provisioner.mintKey, plan, keep, until)', 'mintKey: provisioner.mintKey'],
    ['the rate is cut below the calls that succeeded', 'Math.min(rate, Math.max(1, lately)) * cut', 'Math.min(rate, 1) * cut']
  ]),

  // authorisation
  ...of('guardrails/guardrails.ts', ['guardrails/decide', 'guardrails/grants'], [
    ['a listed entry is not read', '(level === \'write\' && !list && layout', '(level === \'write\' && layout'],
    ['one canned ACL is set without a question', '...(acl || cannedAcl ?', '...(acl ?'],
    ['the bare name of a directory is listed without a question', '...(listNames || (bareName && list) ?', '...(listNames ?'],
    ['uploads are listed without a question', '...(uploads && prefix !== \'\' ?', '...(uploads && prefix === \'\' ?'],
    ['one question too many', 'if (count > maxQuestions)', 'if (count > maxQuestions + 1)'],
    ['what decided is that which permitted', 'decidedBy: decidersOf(denials.map(({ answer }) => answer))', 'decidedBy: decidersOf(permits)'],
    ['an entry’s refusal stops the others', 'if (refused.has(\'/job\')) break', 'if (refused.size > 0) break']
  ]),
  ...of('guardrails/engine.ts', ['guardrails/decide', 'guardrails/grants', 'guardrails/mentions', 'guardrails/open'], [
    ['an absent owner is the caller', 'at.owner ?? \'\' : caller.id', 'at.owner ?? caller.id : caller.id'],
    ['a forbid without a condition is taken for a permit', "effect === 'permit' && conditions.length", 'conditions.length'],
    ['a condition is not asked', 'conditions.length === 0 && principal.op', 'principal.op'],
    ['a permit for one principal is for all', "principal.op === 'All' &&", ''],
    ['a permit for one job is for all', "(resource.op === 'All' ||", '(true ||']
  ]),
  ...of('identity/claims.ts', ['identity/oidc', 'identity/config'], [
    ['one of several required claims is enough', 'if (!given.some(element => accepted.includes(element)))', 'if (!given.some(element => accepted.includes(element)) && Object.keys(required).length < 2)'],
    ['a required attribute may be null', 'if (required.includes(name)) throw', 'if (value === undefined && required.includes(name)) throw']
  ]),
  ...of('identity/authenticator.ts', ['identity/tokens'], [
    ['an instant that cannot be read means never', '!(now().getTime() < expiresAt)', 'now().getTime() >= expiresAt']
  ]),

  // composition
  ...of('compose.ts', ['compose', 'http/health', 'lifecycle/cost'], [
    ['calls are not in turn', 'inTurn(withAbacTags(provisioner, config.JOB_ACCESS_ABAC_TAGS))', 'withAbacTags(provisioner, config.JOB_ACCESS_ABAC_TAGS)'],
    ['the tags for bucket policies are left out', 'inTurn(withAbacTags(provisioner, config.JOB_ACCESS_ABAC_TAGS))', 'inTurn(provisioner)'],
    ['sessions have the default prefix', 'sessionProvisioner({ iam, profiles, prefix: userPrefix, now })', 'sessionProvisioner({ iam, profiles, prefix: \'ja\', now })'],
    ['guardrails of the configuration are not read', 'config.JOB_ACCESS_GUARDRAILS ?? openSet', 'openSet'],
    ['the endpoint of the configuration is not used', '...(endpoint && { endpoint }),', ''],
    ['parts are closed in the order in which they were opened', 'closers.splice(0).reverse()', 'closers.splice(0)', { equivalent: 'no part needs another one while it is closed' }],
    ['a part that does not close keeps the others open', '.catch(err => log.error({ err }, \'closing failed\'))', ''],
    ['the notice of the embedded IAM is missing', 'notice: embedded ?', 'notice: !embedded ?']
  ]),
  ...of('iam/dialects/conclusions.ts', ['iam/dialect-file'], [
    ['what a file says nothing of counts as enforced', "(verdict(`widen ${operation}`, way) ?? 'open') === 'open'", "verdict(`widen ${operation}`, way) === 'open'"],
    ['a deleted key may work on', "deletion: way === 'session' || yes('deleted-key', way)", 'deletion: true'],
    ['of a list of words nothing is compared', 'Array.isArray(value)\n  ? value.toSorted()', 'Array.isArray(value)\n  ? []']
  ]),
  ...of('config.ts', ['iam/dialect-file'], [
    ['a file that somebody has edited is believed', 'return edited.length > 0 ? edited : unenforced(read, allowed)', 'return unenforced(read, allowed)']
  ]),
  ...of('config.ts', ['config'], [
    ['a life of exactly a window is refused', 'config.limits.maxLifetimeSeconds < config.JOB_ACCESS_MAX_WINDOW_SECONDS', 'config.limits.maxLifetimeSeconds <= config.JOB_ACCESS_MAX_WINDOW_SECONDS'],
    ['one identity may not have all grants', 'config.JOB_ACCESS_MAX_GRANTS_PER_IDENTITY > config.JOB_ACCESS_MAX_GRANTS', 'config.JOB_ACCESS_MAX_GRANTS_PER_IDENTITY >= config.JOB_ACCESS_MAX_GRANTS'],
    ['IAM’s endpoint is the one for all', 'env.AWS_ENDPOINT_URL_IAM ?? env.AWS_ENDPOINT_URL', 'env.AWS_ENDPOINT_URL ?? env.AWS_ENDPOINT_URL_IAM'],
    ['a database URL is ignored beside the default file', 'env.DATABASE_URL ?? env.JOB_ACCESS_LEDGER ??', 'env.JOB_ACCESS_LEDGER ??'],
    ['a boundary that the service may change', 'config.JOB_ACCESS_BOUNDARY_ARN?.includes(`:policy${config.JOB_ACCESS_PATH}`)', 'config.JOB_ACCESS_BOUNDARY_ARN?.includes(`:policy/${config.JOB_ACCESS_PATH}`)'],
    ['a misspelled ceiling has no effect', 'name.startsWith(\'JOB_ACCESS_\') && !known.includes(name)', 'name.startsWith(\'JOB_ACCESS_MAX\') && !known.includes(name)'],
    ['IPv6 loopback is exposed', '[\'127.0.0.1\', \'::1\', \'localhost\']', '[\'127.0.0.1\', \'localhost\']'],
    ['profiles of one role may have two external ids', '(sameRole.externalId === externalId && sameRole.revocable === revocable)', 'sameRole.revocable === revocable'],
    ['profiles of one role may differ in revocable', '(sameRole.externalId === externalId && sameRole.revocable === revocable)', 'sameRole.externalId === externalId'],
    ['the shortest IPv6 prefix is that of IPv4', 'minPrefixV6: env.JOB_ACCESS_MIN_PREFIX_V6', 'minPrefixV6: env.JOB_ACCESS_MIN_PREFIX_V4'],
    ['any source is allowed with private ones', 'allowAnySource: env.JOB_ACCESS_ALLOW_ANY_SOURCE', 'allowAnySource: env.JOB_ACCESS_ALLOW_PRIVATE_SOURCE_IPS'],
    ['the embedded IAM is always audited', 'audited: !embedded || env.JOB_ACCESS_AUDIT !== undefined', 'audited: true'],
    ['AWS without a boundary', 'config.JOB_ACCESS_PROVIDER === \'aws\' && !config.JOB_ACCESS_BOUNDARY_ARN && !config.accounts && !allow(\'no-boundary\')', 'config.JOB_ACCESS_PROVIDER === \'aws\' && !config.JOB_ACCESS_BOUNDARY_ARN && !config.accounts && !allow(\'open-guardrails\')'],
    ['tags at a provider that keeps none', 'config.JOB_ACCESS_ABAC_TAGS.length > 0 &&', 'config.JOB_ACCESS_ABAC_TAGS.length > 1 &&'],
    ['one account has two names', 'twin && provider !== \'embedded\'', 'twin && provider === \'embedded\''],
    ['a boundary that the service may change in an account', 'boundaryArn?.includes(`:policy${path}`)', 'boundaryArn?.includes(`:policy${env.JOB_ACCESS_PATH}`)'],
    ['variables of one account are ignored beside several', 'if (!config.accounts || !config[name]) continue', 'continue']
  ]),

  // delivery
  ...of('http/delivery.ts', ['http/delivery', 'http/grants', 'http/workers', 'http/delivery-readers', 'lifecycle/session'], [
    ['a refused media type is taken', '.filter(({ weight }) => weight > 0)', ''],
    ['the least wanted media type is taken', '.sort((a, b) => b.weight - a.weight)', '.sort((a, b) => a.weight - b.weight)'],
    ['credentials state STS’s end, after the window’s', 'endOfSession(expiresAt ?? grant.expiresAt, grant)', '(expiresAt ?? grant.expiresAt)'],
    ['a Secret’s name ends in two hyphens', '.slice(0, 25).replace(/-+$/, \'\')', '.slice(0, 25)'],
    ['a job in order has a notice', 'dueAt !== null && dueAt < expiresAt', 'dueAt !== null && dueAt <= expiresAt'],
    ['every session that ends is called irrevocable', 'grant.state === \'revoking\' && grant.attach === \'session\' && grant.dueAt === sessionEnd(grant)', 'grant.state === \'revoking\' && grant.attach === \'session\''],
    ['a session that is over is warned of', 'grant.attach === \'session\' && sessionEnd(grant) > now', 'grant.attach === \'session\''],
    ['a session that lasts as long as the window is warned of', 'if (end < grant.expiresAt) {', 'if (end <= grant.expiresAt) {'],
    ['a session before that is over is warned of', 'if (previousUntil > now) {', 'if (previousUntil > 0) {'],
    ['the last page has a next one', 'grants.length > limit ?', 'grants.length >= limit ?'],
    ['a file does not tell whether its key is ready', '  if (ready !== undefined) reply.header(\'job-access-ready\', String(ready))\n', ''],
    ['a repeated answer is 201', 'delivery.created ? 201 : 200', 'delivery.created === undefined ? 200 : 201'],
    ['an endpoint breaks the file', 'endpoint && plain(endpoint, \'endpoint of the configuration\')', 'endpoint'],
    ['a token of a session is left out of the profile', '...(credentials.sessionToken ? [`aws_session_token = ${plain(credentials.sessionToken)}`] : []),', ''],
    ['a session token breaks the file', 'AWS_SESSION_TOKEN: plain(credentials.sessionToken)', 'AWS_SESSION_TOKEN: credentials.sessionToken'],
    ['a key before is shown after its end', 'grant.previousKeyId && grant.previousKeyDiesAt !== null', 'grant.previousKeyDiesAt !== null'],
    ['a grant without sessions shows their end', 'grant.attach === \'session\' && sessionEnd(grant) > 0 ?', 'sessionEnd(grant) > 0 ?'],
    ['a session that outlives its window is called one that ends before it', 'end <= grant.notBefore ? \'starts\' : \'ends\'', 'end < grant.notBefore ? \'starts\' : \'ends\''],
    ['a job that ends has no notice', 'grant.maxWorkers !== null && grant.state === \'revoking\') return', 'grant.maxWorkers === 0 && grant.state === \'revoking\') return']
  ]),
  ...of('http/strict-input.ts', ['http/errors'], [
    ['one known parameter of a media type hides another', 'if (!parameters.every(parameter =>', 'if (parameters.length > 0 && !parameters.some(parameter =>'],
    ['a coded body is read as it is', '(request.headers[\'content-encoding\'] ?? \'identity\').trim().toLowerCase() !== \'identity\'', 'request.headers[\'content-encoding\'] === \'gzip\''],
    ['a chunked body of a GET is ignored', 'headers[\'transfer-encoding\'] !== undefined || ', ''],
    ['a byte order mark is skipped', 'fatal: true, ignoreBOM: true', 'fatal: true, ignoreBOM: false'],
    ['an end takes a list', 'typeof body === \'object\' && !Array.isArray(body) ?', 'typeof body === \'object\' ?'],
    ['a HEAD may have a body', '[\'GET\', \'HEAD\'].includes(request.method)', '[\'GET\'].includes(request.method)']
  ]),

  // ledger
  ...of('ledger/sql.ts', ['ledger/sqlite'], [
    ['a worker joins a job that was changed', 'and not_before = ${job.notBefore} and expires_at = ${job.expiresAt}', ''],
    ['workers that have ended take room', 'where parent_id = ${job.id} and due_at is not null', 'where parent_id = ${job.id}'],
    ['ended workers are worked on', 'where parent_id = ${jobId} and due_at is not null', 'where parent_id = ${jobId}'],
    ['a principal of an ended grant is known', 'namesPerStatement))}) and due_at is not null', 'namesPerStatement))})'],
    ['the newest due grant comes first', 'order by due_at, id', 'order by due_at desc, id'],
    ['one grant too many of an owner', 'counts.own > limits.perOwner', 'counts.own > limits.perOwner + 1']
  ]),
  ...of('ledger/sqlite.ts', ['ledger/sqlite'], [
    ['a read sees what may be rolled back', 'if (!transaction) return', 'return']
  ])
]
