import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { auditKey } from '../audit/chain.ts'
import { readKey } from '../audit/config.ts'
import { instanceOf, verifyChain, type VerifiedFile, type VerifyOptions } from '../audit/verify-chain.ts'
import { UsageError, argument, operatorCommand } from './command.ts'

const usage = (self: string) => `${self} [--key-file FILE]… [--head [SEQ:]HASH] FILE…
Checks that audit files are as they were written. Exits 0 when every chain is whole, 1 when one is not, 2 when a file cannot be read.

  FILE        the files of one or more instances, in any order: audit.*.jsonl
  --key-file  the key of the chain (audit.hmacKeyFile of the config); more than one after a change of keys
  --head      a point that is known from elsewhere, e.g. the head that an earlier run printed: it must be in the chain`

const optionsOf = (args: string[]): { files: string[], options: VerifyOptions } => {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { 'key-file': { type: 'string', multiple: true }, head: { type: 'string' } }
  })
  if (positionals.length === 0) throw new UsageError('no file is given')
  const options: VerifyOptions = { keys: (values['key-file'] ?? []).map(path => argument(() => auditKey(readKey(readFileSync(path))))) }
  if (values.head !== undefined) {
    const [, seq, hash] = /^(?:(\d{1,15}):)?([0-9a-f]{64})$/.exec(values.head) ?? []
    if (hash === undefined) throw new UsageError('--head takes SEQ:HASH or HASH, with the hash as 64 hex digits')
    options.head = seq === undefined ? { hash } : { hash, seq: Number(seq) }
  }
  return { files: positionals, options }
}

await operatorCommand(usage, args => {
  const { files, options } = optionsOf(args)
  const chains = new Map<string, VerifiedFile[]>()
  for (const name of files) {
    const file = { name, bytes: argument(() => readFileSync(name)) }
    // An empty file is what a crash just after a change of files leaves.
    if (file.bytes.length === 0) continue
    const instance = instanceOf(file) ?? ''
    chains.set(instance, [...chains.get(instance) ?? [], file])
  }
  if (options.head && chains.size > 1) throw new UsageError('--head is for the files of one instance')
  if (chains.size === 0) throw new UsageError('the files are empty')
  let status = 0
  for (const [instance, contents] of chains) {
    const verdict = verifyChain(instance, contents, options)
    if (verdict.ok) {
      process.stdout.write(`OK ${instance}: ${verdict.lines} lines (${verdict.first} to ${verdict.last.seq}) in ${verdict.files} files, ` +
        `${verdict.keyed ? 'sealed with the key' : 'sealed without a key'}, head ${verdict.last.seq}:${verdict.last.hash}\n`)
    } else {
      const seq = verdict.seq === null ? '' : ` (seq ${verdict.seq})`
      process.stdout.write(`BROKEN ${verdict.file}:${verdict.line}${seq}: ${verdict.fault}: line ${verdict.message}\n`)
      status = 1
    }
  }
  return status
})
