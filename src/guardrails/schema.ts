/**
 * What a guardrail can talk about: the Cedar schema that every policy is validated against, and the same names for the code.
 * A constant and not a file, so that dist/ and the image need no copied asset; `npm run guardrails -- schema` prints it.
 */

/** What a job does with one access entry; an entry needs every one that applies. */
export type AccessAction =
  | 'read' | 'write' | 'delete' | 'setAcl' | 'readVersions' | 'tag' | 'restore' | 'listNames' | 'listUploads'
/** Carries a whole request: decided on the job, then every access entry of the request is decided too. */
export type RequestAction = 'issue' | 'extend' | 'join' | 'render'
/** Touches a grant that exists. */
export type GrantAction = 'collect' | 'rotate' | 'revoke' | 'view'
type TeamAction = 'list'
export type Action = AccessAction | RequestAction | GrantAction | TeamAction

export const requestActions = ['issue', 'extend', 'join', 'render'] as const satisfies readonly RequestAction[]
export const grantActions = ['collect', 'rotate', 'revoke', 'view'] as const satisfies readonly GrantAction[]
export const actions = [
  'read', 'write', 'delete', 'setAcl', 'readVersions', 'tag', 'restore', 'listNames', 'listUploads',
  ...requestActions, ...grantActions, 'list'
] as const satisfies readonly Action[]

export const resourceTypes = {
  read: 'Access',
  write: 'Access',
  delete: 'Access',
  setAcl: 'Access',
  readVersions: 'Access',
  tag: 'Access',
  restore: 'Access',
  listNames: 'Access',
  listUploads: 'Access',
  issue: 'Job',
  extend: 'Job',
  join: 'Job',
  render: 'Job',
  collect: 'Job',
  rotate: 'Job',
  revoke: 'Job',
  view: 'Job',
  list: 'Team'
} as const satisfies Record<Action, string>

/** Identity attributes that are Cedar attributes, `principal has namespace`; all others are tags of the caller. */
export const callerAttributes = ['issuer', 'namespace', 'serviceAccount', 'repository', 'ref', 'environment', 'worker'] as const

export const schemaText = `// Everything a guardrail can talk about. A datetime is UTC: context.start < datetime("2025-07-16T01:00:00Z").
namespace JobAccess {
  // Who asks. Every team of the identity is a parent: principal in JobAccess::Team::"nlp". An administrator's team is "*".
  // Identity attributes beyond these are tags: principal.hasTag("cluster") && principal.getTag("cluster") == "eu-1".
  entity Caller in [Team] {
    kind: String,               // "token" or "oidc"
    teams: Set<String>,
    issuer?: String,            // configured name of the OIDC issuer
    namespace?: String,         // the rest as the configuration takes them from the claims
    serviceAccount?: String,
    repository?: String,
    ref?: String,
    environment?: String,
    worker?: String,            // the worker that the token is for: it joins as no other
  } tags String;

  entity Team { name: String };

  // One access entry of a request: a bucket, a directory of it, one key, or the keys that begin with some text.
  entity Access {
    bucket: String,
    kind: String,               // "bucket", "prefix", "key" or "keyPrefix"
    prefix: String,             // the directory that holds all its keys: "" for the whole bucket, else it ends with "/"
    folder: String,             // first segment of the prefix without "/": "nlp" of "nlp/runs/42/"; "" for the whole bucket
    key?: String,               // of kind "key": the whole key
    keyPrefix?: String,         // of kind "keyPrefix": what the keys begin with
    list: Bool,                 // may the job list the keys
    attributes: Bool,           // may it read the attributes of the objects that it reads
    acl: String,                // "", "any", or the canned ACL that it may set
    kmsKeyArns: Set<String>,
  };

  // The job of a request or a grant; its labels are tags: resource.hasTag("experiment").
  entity Job {
    team: String,
    jobId: String,
    owner: Caller,              // resource.owner == principal: who asked for the grant
  } tags String;

  // One decision is made per source range of the request, and all must allow: source or vpcSource is that range, whole.
  // A request with sourceIps and vpc is decided as if it were two: a decision has source, or the attributes of the VPC, never both.
  type Request = {
    now: datetime,
    start: datetime,
    end: datetime,              // exclusive; of an entry that may write: with the output grace
    windowSeconds: Long,        // from start to end
    lifetimeSeconds: Long,      // from the grant's first issue to end, rounded up; issue, render: from now or a later issueAt
    startsInSeconds: Long,      // from now to start, rounded up; negative when start has passed
    source?: ipaddr,            // public addresses, aws:SourceIp
    vpcSource?: ipaddr,         // addresses inside the VPC, aws:VpcSourceIp
    vpcIds?: Set<String>,       // aws:SourceVpc, one of these; absent where the request names none
    vpcArns?: Set<String>,      // aws:SourceVpcArn, likewise
    vpcEndpointIds?: Set<String>, // aws:SourceVpce, likewise
    attach: String,             // as requested: "auto" (inline or managed, by size), "inline", "managed", "session"
    layout: String,             // "everywhere", "guarded", "guide"
    team: String,               // of the job
    jobId: String,
    profile?: String,           // role profile, with attach "session"
    workers?: Long,             // a job of workers: how many at most; it has no source, each worker has its own
    worker?: String,            // join: name of the worker
    account?: String,           // account of the pool: asked of each that may take the grant, which goes only where it is allowed
  };

  // What the job may do with the objects of one entry. Listing their names is read.
  // readVersions: earlier versions. tag: read tags where it reads, set them where it writes. restore: archived objects.
  // listNames: names outside of the entry, all of the bucket or those beside a directory. listUploads: all uploads of the bucket.
  action read, write, delete, setAcl, readVersions, tag, restore, listNames, listUploads
    appliesTo { principal: Caller, resource: Access, context: Request };
  // Ask for a grant, give one another window or source, get a key as a worker of a job, or have a policy rendered; the entries are
  // decided as well.
  action issue, extend, join, render appliesTo { principal: Caller, resource: Job, context: Request };
  // Fetch the key of a scheduled grant, replace a key, end a grant (complete as well), look at one. Of a worker's grant: with its name.
  action collect, rotate, revoke, view appliesTo { principal: Caller, resource: Job, context: { now: datetime, worker?: String } };
  // List the grants of a team; Team::"*" stands for all of them.
  action list appliesTo { principal: Caller, resource: Team, context: { now: datetime } };
}
`
