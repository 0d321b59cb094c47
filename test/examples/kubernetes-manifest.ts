import type { ChildProcess } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { parseAllDocuments } from 'yaml'
import { check, example, script, tool, workplace } from './example.ts'

/** A manifest of examples/kubernetes: a job with a sidecar that has the token, and a container that trains. */
export const readManifest = (name: string) => {
  const path = example('kubernetes', name)
  const text = readFileSync(path, 'utf8')
  const [account, config, job] = parseAllDocuments(text).map(document => document.toJS())
  const pod = job.spec.template.spec
  const [sidecar] = pod.initContainers
  const [train] = pod.containers
  return { path, text, account, config, job, pod, sidecar, train }
}

/** What holds for every manifest. @param typo a word of this one, and the same word with a mistake */
export const testManifest = (
  t: Test, { path, text, account, pod, sidecar, train }: ReturnType<typeof readManifest>, typo: [right: string, wrong: string]
): void => {
  const validator = tool('lint', 'bin', 'kubernetes-validate')
  t.test('Kubernetes’ own schemas accept it, and would not accept a typo', { skip: validator.skip }, async t => {
    const { status, said } = check(validator.path, ['--strict', path])
    t.equal(status, 0, said)
    const mistyped = join(workplace(t), 'typo.yaml')
    writeFileSync(mistyped, text.replace(...typo))
    t.not(check(validator.path, ['--strict', mistyped]).status, 0)
  })

  t.test('only the sidecar has the token; what is shared is in memory, for the pod’s one user', async t => {
    t.equal(account.automountServiceAccountToken, false)
    t.equal(pod.serviceAccountName, account.metadata.name)
    t.strictSame(train.volumeMounts, [{ name: 'access', mountPath: '/access', readOnly: true }])
    t.equal(pod.volumes.find(({ name }: { name: string }) => name === 'access').emptyDir.medium, 'Memory')
    t.equal(sidecar.restartPolicy, 'Always', 'a sidecar, which ends after the others')
  })
}

interface StartupProbe { exec: { command: string[] }, failureThreshold: number, periodSeconds: number }

/** Runs the startup probe as the kubelet does, until it succeeds. @param here turns the paths of the pod into those of the test */
export const waitUntilStarted = async (
  child: ChildProcess, { exec, failureThreshold, periodSeconds }: StartupProbe, here: (word: string) => string, env: Record<string, string>
): Promise<void> => {
  const [probe = '', ...args] = exec.command.map(here)
  for (let failures = 0; (await script(probe, args, { env })).code !== 0; failures++) {
    if (failures >= failureThreshold || child.exitCode !== null) throw new Error('the pod would not start')
    await sleep(periodSeconds * 1000)
  }
}
