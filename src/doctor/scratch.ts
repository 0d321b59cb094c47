import { keys } from './questions.ts'
import type { Called, Key, Store } from './store.ts'

/**
 * The doctor's own corner of a store: users, policies and a role whose names begin with `ja-doctor-` and the id of the run, and two
 * buckets. Whatever is made is noted before it is made, and removed in reverse order whatever happens.
 */
export const namePrefix = 'ja-doctor-'

export interface Scratch {
  /** The store itself, to remove with: it goes on when the run is stopped. */
  store: Store
  name: (suffix: string) => string
  path: string
  buckets: [mine: string, other: string]
  /** Calls, and notes before how that is undone: the answer may get lost. */
  make: (operation: string, input: object, undo: (output: any) => Promise<Complaint>, key?: Key) => Promise<Called>
  bucket: (name: string) => Promise<void>
  put: (key: string, bucket?: string) => Promise<void>
  upload: () => Promise<string>
  /** Removes everything; what could not be removed. */
  remove: () => Promise<string[]>
}

/** What could not be removed; null: it was, or is not there. */
export type Complaint = string | null

export const openScratch = (store: Store, run: string, location?: string): Scratch => {
  const undos: Array<() => Promise<Complaint>> = []
  const name = (suffix: string) => `${namePrefix}${run}${suffix}`
  const buckets: Scratch['buckets'] = [name('-a'), name('-b')]

  const must = async (request: Parameters<Store['s3']>[0]): Promise<string> => {
    const { outcome, code, body } = await store.s3(request)
    if (outcome !== 'passed') throw new Error(`S3 refused ${request.method} ${request.bucket}/${request.key ?? ''} of the admin: ${code}`)
    return body
  }

  return {
    store,
    name,
    path: `/job-access-doctor/${run}/`,
    buckets,
    async make (operation, input, undo, key) {
      let output: any
      undos.push(() => undo(output))
      const made = await store.call(operation, input, key)
      if (made.ok) output = made.output
      return made
    },
    async bucket (bucket) {
      undos.push(() => removeBucket(store, bucket))
      await must({ method: 'PUT', bucket, body: bucketIn(location) })
    },
    put: async (key, bucket = buckets[0]) => { await must({ method: 'PUT', bucket, key, body: 'of the doctor' }) },
    async upload () {
      const begun = await must({ method: 'POST', bucket: buckets[0], key: keys.upload, query: { uploads: '' } })
      return valuesOf('UploadId', begun)[0] ?? ''
    },
    async remove () {
      const left: string[] = []
      for (const undo of undos.splice(0).reverse()) {
        const complaint = await undo().catch((error: unknown) => error instanceof Error ? error.message : String(error))
        if (complaint !== null) left.push(complaint)
      }
      return left
    }
  }
}

/** The body of CreateBucket. */
export const bucketIn = (location: string | undefined): string => location === undefined
  ? ''
  : `<CreateBucketConfiguration><LocationConstraint>${location}</LocationConstraint></CreateBucketConfiguration>`

/** Nothing was there: then it need not be removed. A call that the store does not have never made anything. */
const gone = [
  'NoSuchEntity', 'NoSuchBucket', 'InvalidAction', 'NotImplemented', '404', '405', '501',
  // What MinIO and RustFS, which have STS alone, answer to a call of IAM.
  'MissingParameter', 'InvalidParameterValue', 'InvalidArgument'
]

const complaintOf = (called: Called, what: string): Complaint => called.ok || gone.includes(called.code) ? null : `${what}: ${called.code}`

const valuesOf = (element: string, xml: string): string[] =>
  [...xml.matchAll(new RegExp(`<${element}>([^<]*)</${element}>`, 'g'))].map(([, text]) => text ?? '')

export const removeBucket = async (store: Store, bucket: string): Promise<Complaint> => {
  const remove = (key: string, query = {}) => store.s3({ method: 'DELETE', bucket, key, query })
  const { body: uploads } = await store.s3({ method: 'GET', bucket, query: { uploads: '' } })
  for (const uploadId of valuesOf('UploadId', uploads)) await remove(keys.upload, { uploadId })
  for (let found = 1, round = 0; found > 0 && round < 100; round++) {
    const objects = valuesOf('Key', (await store.s3({ method: 'GET', bucket, query: { 'list-type': '2' } })).body)
    for (const key of objects) await remove(key)
    found = objects.length
  }
  const { outcome, code } = await store.s3({ method: 'DELETE', bucket })
  return outcome === 'passed' || gone.includes(code) ? null : `bucket ${bucket}: ${code}`
}

/** All pages of a list, or those before the one that was refused. */
export const pagesOf = async (
  { call }: Store, operation: string, items: string, input: object = {}
): Promise<{ found: any[], refused: string | null }> => {
  const found: any[] = []
  let Marker: string | undefined
  do {
    const called = await call(operation, { ...input, ...(Marker !== undefined && { Marker }) })
    if (!called.ok) return { found, refused: called.code }
    found.push(...called.output[items] ?? [])
    Marker = called.output.IsTruncated === true ? called.output.Marker : undefined
  } while (Marker !== undefined)
  return { found, refused: null }
}

const listed = async (...args: Parameters<typeof pagesOf>): Promise<any[]> => (await pagesOf(...args)).found

export const removeUser = async (store: Store, UserName: string): Promise<Complaint> => {
  const { call } = store
  // A key may have made another one in the meantime.
  for (let found = 1, round = 0; found > 0 && round < 5; round++) {
    const owned = await listed(store, 'ListAccessKeys', 'AccessKeyMetadata', { UserName })
    for (const { AccessKeyId } of owned) await call('DeleteAccessKey', { UserName, AccessKeyId })
    found = owned.length
  }
  for (const PolicyName of await listed(store, 'ListUserPolicies', 'PolicyNames', { UserName })) {
    await call('DeleteUserPolicy', { UserName, PolicyName })
  }
  for (const { PolicyArn } of await listed(store, 'ListAttachedUserPolicies', 'AttachedPolicies', { UserName })) {
    await call('DetachUserPolicy', { UserName, PolicyArn })
  }
  return complaintOf(await call('DeleteUser', { UserName }), `DeleteUser ${UserName}`)
}

/** Its ARN, by the list. Where the list is refused, nobody knows whether it is there, but for a store that has no such list. */
const policyArn = async (store: Store, name: string): Promise<string | { refused: string } | undefined> => {
  const { found, refused } = await pagesOf(store, 'ListPolicies', 'Policies', { Scope: 'Local' })
  const arn: string | undefined = found.find(({ PolicyName }) => PolicyName === name)?.Arn
  return arn ?? (refused === null || gone.includes(refused) ? undefined : { refused: `ListPolicies, for ${name}: ${refused}` })
}

export const removePolicy = async (store: Store, name: string, arn?: string, UserName?: string): Promise<Complaint> => {
  const { call } = store
  const PolicyArn = arn ?? await policyArn(store, name)
  if (typeof PolicyArn !== 'string') return PolicyArn?.refused ?? null
  if (UserName !== undefined) await call('DetachUserPolicy', { UserName, PolicyArn })
  for (const { VersionId, IsDefaultVersion } of await listed(store, 'ListPolicyVersions', 'Versions', { PolicyArn })) {
    if (!IsDefaultVersion) await call('DeletePolicyVersion', { PolicyArn, VersionId })
  }
  return complaintOf(await call('DeletePolicy', { PolicyArn }), `DeletePolicy ${name}`)
}

export const rolePolicy = 'doctor'

export const removeRole = async ({ call }: Store, RoleName: string, policies = [rolePolicy]): Promise<Complaint> => {
  for (const PolicyName of policies) await call('DeleteRolePolicy', { RoleName, PolicyName })
  return complaintOf(await call('DeleteRole', { RoleName }), `DeleteRole ${RoleName}`)
}

/** Removes what killed runs left: everything with the doctor's prefix. What was removed, and what could not be. */
export const clean = async (store: Store): Promise<{ removed: string[], left: string[] }> => {
  const removed: string[] = []
  const left: string[] = []
  const sweep = async (names: string[], remove: (name: string) => Promise<Complaint>) => {
    for (const name of names.filter(each => each.startsWith(namePrefix))) {
      const complaint = await remove(name)
      if (complaint === null) removed.push(name)
      else left.push(complaint)
    }
  }
  const named = async (operation: string, items: string, name: string, input = {}): Promise<string[]> => {
    const { found, refused } = await pagesOf(store, operation, items, input)
    if (refused !== null && !gone.includes(refused)) left.push(`${operation}: ${refused}`)
    return found.map(item => item[name])
  }
  await sweep(await named('ListUsers', 'Users', 'UserName'), name => removeUser(store, name))
  await sweep(await named('ListPolicies', 'Policies', 'PolicyName', { Scope: 'Local' }), name => removePolicy(store, name))
  await sweep(await named('ListRoles', 'Roles', 'RoleName'), name => removeRole(store, name))
  const buckets = store.reach === null ? [] : valuesOf('Name', (await store.s3({ method: 'GET' })).body)
  await sweep(buckets, name => removeBucket(store, name))
  return { removed, left }
}
