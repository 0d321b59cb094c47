import { normalise } from '../../src/policy/normalise.ts'
import { compile, decide } from '../../src/policy/prove/evaluate.ts'
import { intention } from '../../src/policy/prove/intent.ts'
import { prove } from '../../src/policy/prove/prove.ts'
import { render } from '../../src/policy/render.ts'
import { mutants } from '../policy/prove/mutations.ts'
import { randomRequest } from '../policy/prove/random-requests.ts'
import { seeded, type Draw } from '../policy/prove/seeded.ts'
import { randomPolicyRequest } from './random-policy-requests.ts'

/** What a run found. `failures` are for people to read; each says how to see it again. */
export interface Findings {
  requests: number
  spec: number
  /** Refused requests by problem code. */
  refused: Record<string, number>
  layouts: Record<string, number>
  /** Requests covered by the proofs. */
  covered: number
  /** Single requests asked of policy and intent beside the proofs. */
  asked: number
  allowed: number
  /** Policies with one thing changed: refused, or proven and asked about as well. */
  mutantsRefused: number
  mutantsProven: number
  failures: string[]
}

const count = (into: Record<string, number>, key: string) => { into[key] = (into[key] ?? 0) + 1 }

/** One of the mutants of a policy, any with the same chance, without making a list of all. */
const anyMutant = (draw: Draw, policy: Parameters<typeof mutants>[0]) => {
  let chosen: ReturnType<typeof mutants> extends Generator<infer M> ? M | undefined : never
  let seen = 0
  for (const mutant of mutants(policy)) if (draw.below(++seen) === 0) chosen = mutant
  return chosen
}

/**
 * Renders random requests and proves what was rendered. Everything depends on the seed alone; request n of a seed is the same
 * whatever the number of requests.
 */
export const fuzzRender = (seed: number, requests: number, progress: (done: number) => void = () => {}): Findings => {
  const findings: Findings = {
    requests, spec: 0, refused: {}, layouts: {}, covered: 0, asked: 0, allowed: 0, mutantsRefused: 0, mutantsProven: 0, failures: []
  }
  for (let n = 0; n < requests; n++) {
    if (n > 0 && n % 10_000 === 0) progress(n)
    const draw = seeded(seed * 1_000_003 + n)
    const { request, limits, now } = randomPolicyRequest(draw)
    const fail = (what: string, detail: unknown) => findings.failures.push(`seed ${seed}, request ${n}: ${what}: ${JSON.stringify({ request, detail })}`)
    const normalised = normalise(request, limits, now)
    if (!normalised.ok) {
      for (const code of new Set(normalised.findings.map(finding => finding.code))) count(findings.refused, code)
      continue
    }
    const { spec } = normalised
    findings.spec++
    count(findings.layouts, spec.layout)
    const policy = render(spec)
    const proof = prove(policy, spec)
    findings.covered += proof.probes
    if (!proof.ok) {
      fail(`not proven, ${proof.reason}`, proof.counterexample)
      continue
    }
    const intends = intention(spec)
    const askNear = (document: typeof policy, times: number, what: string) => {
      const statements = compile(document)
      for (let i = 0; i < times; i++) {
        const near = randomRequest(draw, spec)
        const { allowed } = decide(statements, near)
        findings.asked++
        if (allowed) findings.allowed++
        if (allowed !== intends(near)) fail(`${what}, and wrong`, near)
      }
    }
    askNear(policy, 10, 'proven')
    if (n % 20 !== 0) continue
    const mutant = anyMutant(draw, policy)
    if (mutant === undefined) continue
    const verdict = prove(mutant.policy, spec)
    if (verdict.ok) {
      findings.mutantsProven++
      askNear(mutant.policy, 50, `${mutant.what} proven`)
      continue
    }
    findings.mutantsRefused++
    if (verdict.counterexample === undefined) continue
    const { request: counter, wanted, got } = verdict.counterexample
    if (wanted !== intends(counter) || got.kind !== decide(compile(mutant.policy), counter).kind) fail(`no counterexample to ${mutant.what}`, verdict)
  }
  return findings
}
