import { boundaryPolicy, servicePolicy } from '../../src/iam/own-policies.ts'

/** The policies of `npm run own-policies` with Terraform's placeholders. `replaced` stands for the lists that policies/main.tf fills in. */
export const templates = (): Record<string, string> => {
  const placeholder = (name: string) => `\${${name}}`
  const service = servicePolicy({
    // The type allows only the three partitions. A placeholder works as well, because it goes into ARNs unchanged.
    partition: placeholder('partition') as 'aws',
    accountId: placeholder('account_id'),
    pathBase: placeholder('path'),
    userPrefix: placeholder('user_prefix'),
    boundaryArn: placeholder('boundary_arn'),
    roles: [{ roleArn: 'replaced', revocable: true }],
    buckets: [],
    kmsKeys: []
  })
  const boundary = boundaryPolicy({ partition: 'aws', buckets: ['replaced'], kmsKeys: ['replaced'] })
  const text = (document: unknown) => `${JSON.stringify(document, null, 2)}\n`
  return {
    'service.json.tftpl': text(service),
    'boundary.json.tftpl': text(boundary).replace('amazonaws.com', placeholder('suffix'))
  }
}
