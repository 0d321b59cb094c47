import { guideRequest } from './request.ts'

// The shell makes it another job each time: for one that has its key, the same request again is refused.
const jobId = "guide-'$(date +%s%N)'"

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
  -d '${JSON.stringify({ ...guideRequest, job: { ...guideRequest.job, id: jobId } })}'

`

/** Names the variable, since the system's message has only the number. Undefined: it is another error. */
export const portInUse = (error: unknown, variable: 'PORT' | 'JOB_ACCESS_METRICS_PORT'): Error | undefined => {
  const { code, port } = error as { code?: string, port?: number }
  if (code !== 'EADDRINUSE') return undefined
  return new Error(`Port ${port} is in use. Set ${variable} to another one, e.g. ${variable}=${Number(port) + 1} npm start.`)
}
