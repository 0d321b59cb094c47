import { guideRequest } from './request.ts'

/** What `npm start` prints with a token of its own: everything that is needed to try the service by pasting. */
export const welcome = (address: string, token: string, provider: string): string => `
job-access listens on ${address} (provider: ${provider})
  Console      ${address}/console
  Swagger UI   ${address}/docs
  API token    ${token}   (this run only; it is kept nowhere)

Policy and credentials for the guide's training job:

curl -sS -X POST ${address}/v1/grants \\
  -H 'authorization: Bearer ${token}' \\
  -H 'content-type: application/json' \\
  -d '${JSON.stringify(guideRequest)}'

`
