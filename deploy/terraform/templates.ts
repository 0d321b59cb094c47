import { boundaryPolicy, servicePolicy } from '../../src/iam/own-policies.ts'

/** The policies of `npm run own-policies` with Terraform's placeholders. What main.tf replaces as a whole is empty here. */
export const templates = (): Record<string, string> => {
  const placeholder = (name: string) => `\${${name}}`
  const service = servicePolicy({
    // Not one of the three: it goes into ARNs as it is.
    partition: placeholder('partition') as 'aws',
    accountId: placeholder('account_id'),
    pathBase: placeholder('path'),
    boundaryArn: placeholder('boundary_arn'),
    roles: [{ roleArn: 'replaced', revocable: true }],
    buckets: []
  })
  const boundary = boundaryPolicy({ partition: 'aws', buckets: ['replaced'] })
  const text = (document: unknown) => `${JSON.stringify(document, null, 2)}\n`
  return {
    'service.json.tftpl': text(service),
    'boundary.json.tftpl': text(boundary).replace('amazonaws.com', placeholder('suffix'))
  }
}
