import { readFile } from 'node:fs/promises'
import { GuardrailsError, loadGuardrails, type Guardrails } from './guardrails.ts'
import type { PolicyFinding } from './policies.ts'

export type Reload =
  | { ok: true, guardrails: Guardrails, changed: boolean }
  /** The set in force stays in force; `findings` say why and are never empty. */
  | { ok: false, guardrails: Guardrails, findings: PolicyFinding[] }

export interface GuardrailsInForce {
  /** Read it once per request, so that the whole request is decided under one set. */
  readonly current: Guardrails
  /** Reads the file again. Calls run one after the other, so that the file that was read last is in force. */
  reload (): Promise<Reload>
}

/**
 * Reads the policy file and keeps its policies in force until a reload reads a good file.
 *
 * @param load for tests
 * @throws GuardrailsError when the file cannot be read or used, as there is no older set
 */
export const openGuardrails = async (fileName: string, load = loadGuardrailsFile): Promise<GuardrailsInForce> => {
  let last: Promise<unknown> = Promise.resolve()

  const replace = async (): Promise<Reload> => {
    try {
      const next = await load(fileName)
      const changed = next.sha256 !== inForce.current.sha256
      if (changed) inForce.current = next
      return { ok: true, guardrails: inForce.current, changed }
    } catch (error) {
      if (!(error instanceof GuardrailsError)) throw error
      return { ok: false, guardrails: inForce.current, findings: error.findings }
    }
  }

  const inForce = {
    current: await load(fileName),
    reload: (): Promise<Reload> => {
      const run = last.then(replace)
      last = run.catch(() => {})
      return run
    }
  }
  return inForce
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
