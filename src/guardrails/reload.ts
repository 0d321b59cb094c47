import { readFile } from 'node:fs/promises'
import { GuardrailsError, loadGuardrails, type Guardrails } from './guardrails.ts'
import type { PolicyFinding } from './policies.ts'

export type Reload =
  | { ok: true, guardrails: Guardrails, changed: boolean }
  /** The set in force stays; `findings` says why, never empty. */
  | { ok: false, guardrails: Guardrails, findings: PolicyFinding[] }

export interface GuardrailsInForce {
  /** Take it anew for every request: a decision begun under one set ends under it. */
  readonly current: Guardrails
  /** Reads the file again. Calls in quick succession run one after another, so the last file read is the one in force. */
  reload (): Promise<Reload>
}

/**
 * Reads the policy file and keeps it in force until a reload finds a good one.
 *
 * @param load for tests
 * @throws GuardrailsError when the file cannot be read or used: there is no older set to fall back to
 */
export const openGuardrails = async (fileName: string, load = loadGuardrailsFile): Promise<GuardrailsInForce> => {
  let inForce = await load(fileName)
  let last: Promise<unknown> = Promise.resolve()

  const replace = async (): Promise<Reload> => {
    try {
      const next = await load(fileName)
      const changed = next.sha256 !== inForce.sha256
      if (changed) inForce = next
      return { ok: true, guardrails: inForce, changed }
    } catch (error) {
      if (!(error instanceof GuardrailsError)) throw error
      return { ok: false, guardrails: inForce, findings: error.findings }
    }
  }

  return {
    get current () { return inForce },
    reload: () => {
      const run = last.then(replace)
      last = run.catch(() => {})
      return run
    }
  }
}

/** @throws GuardrailsError, also when the file cannot be read or is not UTF-8 */
export const loadGuardrailsFile = async (fileName: string): Promise<Guardrails> => {
  const unusable = (message: string) => new GuardrailsError([{ file: fileName, line: 1, column: 1, message }])
  const bytes = await readFile(fileName).catch((error: unknown) => {
    throw unusable(`cannot be read: ${error instanceof Error && 'code' in error ? String(error.code) : String(error)}`)
  })
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw unusable('is not UTF-8')
  }
  return loadGuardrails(text, fileName)
}
