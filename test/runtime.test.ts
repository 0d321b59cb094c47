import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

/** runtime/node, in a checkout whose npm and whose Nodes are scripts: no registry is asked. */

const root = join(import.meta.dirname, '..')
/** What the shim and the scripts call; the machine's /usr/bin may hold a Node. */
const tools = ['chmod', 'cksum', 'cp', 'dirname', 'ln', 'ls', 'mkdir', 'mktemp', 'mv', 'readlink', 'rm', 'sleep', 'uname']

const executable = (path: string, text: string) => {
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, 0o755)
}

/** A Node that says its version, and answers a script with its own name, its arguments, its process and the PATH that it got. */
const fakeNode = (folder: string, version: string, name: string) => {
  mkdirSync(folder, { recursive: true })
  executable(join(folder, 'node'), `[ "$1" = -v ] && echo ${version} && exit
printf '%s\\n' ${name} "$#" "$*" "$$" "$PATH"`)
}

const checkout = (t: Test) => {
  const home = join(t.testdir(), 'a check out')
  const bin = join(home, 'node_modules', '.bin')
  const machine = join(home, 'machine')
  const system = join(home, 'system')
  const source = join(home, 'runtime', 'node-24')
  for (const folder of [bin, machine, system, source]) mkdirSync(folder, { recursive: true })
  for (const name of tools) symlinkSync([`/usr/bin/${name}`, `/bin/${name}`].find(existsSync) ?? name, join(system, name))
  copyFileSync(join(root, 'runtime/node'), join(home, 'runtime/node'))
  for (const name of ['package.json', 'package-lock.json']) copyFileSync(join(root, 'runtime/node-24', name), join(source, name))
  symlinkSync('../../runtime/node', join(bin, 'node'))
  const log = join(home, 'npm.log')
  /** What `npm ci --prefix FOLDER` does here; $made is where the Node goes. */
  const npm = (make: string) => executable(join(machine, 'npm'), `echo "$*" >> '${log}'
node -v >> '${log}'
made=$3/node_modules/node-this-machine/bin
mkdir -p "$made"
${make}`)
  npm(`ln -s '${process.execPath}' "$made/node"`)
  const start = (path: string, ...args: string[]) => spawn(join(bin, 'node'), args, { env: { PATH: path }, stdio: 'pipe' })
  const run = async (path: string, ...args: string[]) => {
    const child = start(path, ...args)
    let out = ''
    let err = ''
    child.stdout.on('data', chunk => { out += String(chunk) })
    child.stderr.on('data', chunk => { err += String(chunk) })
    const [code] = await once(child, 'close') as [number | null]
    return { code, out, err, pid: child.pid }
  }
  const installed = () => readdirSync(join(source, 'node_modules'))
  return { bin, machine, system, source, log, npm, start, run, installed, path: `${bin}:${machine}:${system}` }
}

t.test('the first Node on PATH that is new enough is used, as it is', async t => {
  const { bin, machine, system, run } = checkout(t)
  const other = join(machine, 'other')
  fakeNode(machine, 'v20.20.2', 'old')
  fakeNode(other, 'v24.2.0', 'new')
  const path = `${bin}:${machine}:${other}:${system}`
  const { code, out, err, pid } = await run(path, 'a b', '*', '')
  t.strictSame(out.split('\n'), ['new', '3', 'a b * ', String(pid), path, ''], 'same arguments, process and PATH')
  t.equal(code, 0)
  t.equal(err, '')
})

t.test('new enough is what strips types and has import.meta.main', async t => {
  for (const [version, enough] of Object.entries({
    'v20.99.0': false, 'v22.17.1': false, 'v22.18.0': true, 'v23.11.1': false, 'v24.1.0': false, 'v24.2.0': true, 'v25.0.0': true, 'v26.1.0-nightly': true, nonsense: false
  })) {
    const { machine, path, run } = checkout(t)
    fakeNode(machine, version, 'machine')
    const { out } = await run(path, '-p', '"installed"')
    t.equal(out.split('\n')[0], enough ? 'machine' : 'installed', version)
  }
})

t.test('the floor is the one that the client package states', async t => {
  const { engines } = JSON.parse(readFileSync(join(root, 'client/package.json'), 'utf8')) as { engines: { node: string } }
  t.equal(engines.node, '>=22.18')
})

t.test('the images start Node with the flags of npm start, and Node knows them', async t => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: { start: string } }
  const ofV8 = (words: string[]) => words.filter(word => /^--(?!import=|disable-warning=)/.test(word))
  const flags = ofV8(scripts.start.split(' '))
  for (const file of ['Dockerfile', 'deploy/tracing/Dockerfile']) {
    const entrypoint = /^ENTRYPOINT (.*)/m.exec(readFileSync(join(root, file), 'utf8'))?.[1] ?? '[]'
    t.strictSame(ofV8(JSON.parse(entrypoint) as string[]), flags, file)
  }
  t.equal(execFileSync(process.execPath, [...flags, '-p', '1'], { encoding: 'utf8' }), '1\n', 'an unknown one would end it')
})

t.test('where all are too old, Node 24 is installed once, by the old one, and its folder leads the PATH of the children', async t => {
  const { machine, source, log, path, run, installed } = checkout(t)
  fakeNode(machine, 'v20.20.2', 'old')
  const first = await run(path, '-p', 'process.execPath + "\\n" + process.env.PATH')
  t.equal(first.code, 0)
  t.match(first.err, /^node: v20\.20\.2 is too old [^\n]*\n$/, 'one line says so')
  const [folder = '', ...more] = installed()
  t.strictSame(more, [], 'nothing is left of the installation')
  t.strictSame(first.out.split('\n'), [process.execPath, `${join(source, 'node_modules', folder)}:${path}`, ''])
  const second = await run(path, '-p', '1')
  t.match(second, { code: 0, out: '1\n', err: '' })
  const said = readFileSync(log, 'utf8').split('\n')
  t.match(said[0], /^ci --prefix /)
  t.strictSame(said.slice(1), ['v20.20.2', ''], 'npm found the old Node, and ran once')

  writeFileSync(join(source, 'package-lock.json'), '{}')
  t.match(await run(path, '-p', '1'), { code: 0, err: /too old/ }, 'another lock file: installed anew')
  t.equal(installed().length, 1, 'the one before is gone')
  t.not(installed()[0], folder)
})

t.test('two that start at once both get a whole Node', async t => {
  const { machine, path, run, npm, installed } = checkout(t)
  fakeNode(machine, 'v20.20.2', 'old')
  npm(`sleep 0.5; ln -s '${process.execPath}' "$made/node"`)
  const both = await Promise.all([run(path, '-p', '1'), run(path, '-p', '1')])
  for (const one of both) t.match(one, { code: 0, out: '1\n' })
  t.equal(installed().length, 1)
})

t.test('exit codes and signals pass, and standard input', async t => {
  const { machine, path, run, start } = checkout(t)
  fakeNode(machine, 'v20.20.2', 'old')
  t.equal((await run(path, '-e', 'process.exit(7)')).code, 7)

  const child = start(path, '-e', 'process.on("SIGTERM", () => process.exit(9)); process.stdin.on("data", () => console.log(process.pid))')
  child.stdin.write('x')
  const [pid] = await once(child.stdout, 'data') as [Buffer]
  t.equal(Number(String(pid)), child.pid)
  child.kill('SIGTERM')
  t.strictSame(await once(child, 'exit'), [9, null])

  const killed = start(path, '-e', 'console.log(1); setInterval(() => {}, 1000)')
  await once(killed.stdout, 'data')
  killed.kill('SIGINT')
  t.strictSame(await once(killed, 'exit'), [null, 'SIGINT'])
})

t.test('what cannot be installed is said, and nothing is left of it', async t => {
  const { bin, machine, system, path, run, npm, installed } = checkout(t)
  t.match(await run(`${bin}:${system}`, '-p', '1'), { code: 1, out: '', err: 'node: there is no Node on PATH. Install Node 24.\n' })

  fakeNode(machine, 'v20.20.2', 'old')
  npm('exit 1')
  t.match(await run(path, '-p', '1'), { code: 1, out: '', err: /needs the npm registry, once/ })
  npm('')
  t.match(await run(path, '-p', '1'), { code: 1, out: '', err: /no Node 24 for this machine/ })
  npm('echo "exit 1" > "$made/node"; chmod +x "$made/node"')
  t.match(await run(path, '-p', '1'), { code: 1, out: '', err: /no Node 24 for this machine/ })
  t.strictSame(installed().filter(name => name.startsWith('new')), [])
})

t.test("another checkout's shim on PATH is not taken for a Node", async t => {
  const one = checkout(t)
  const two = checkout(t)
  fakeNode(two.machine, 'v24.2.0', 'new')
  const { out } = await one.run(`${one.bin}:${two.bin}:${two.path}`)
  t.equal(out.split('\n')[0], 'new')
})
