import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

/**
 * `npm run build:executable`: writes the command `job-access` as one file that needs no Node, and the licences of what is in it, into
 * dist/executable, or into the folder that is given. A single executable application of Node 24: a CommonJS script in a copy of the node
 * binary (https://nodejs.org/docs/latest-v24.x/api/single-executable-applications.html). Node's version is pinned in package.json beside
 * this file, so that the same checkout makes the same bytes on every machine of a kind.
 */

const root = join(import.meta.dirname, '..', '..')
const [folder = join(root, 'dist', 'executable')] = process.argv.slice(2)
const packages = join(import.meta.dirname, 'node_modules')
const nodePackage = join(packages, `node-linux-${process.arch}`)
if (process.platform !== 'linux' || !existsSync(nodePackage)) {
  console.error(`The executable is built on Linux with glibc, on x64 and arm64; this machine is ${process.platform} ${process.arch}.`)
  process.exit(1)
}
const node = join(nodePackage, 'bin', 'node')

mkdirSync(folder, { recursive: true })
// Beside the result: a rename replaces a file that is running, a copy could not.
const building = mkdtempSync(join(resolve(folder), '.building-'))
try {
  const at = (name: string) => join(building, name)
  // With relative names, since these go into what is made.
  const run = (cwd: string, ...command: string[]) => execFileSync(node, command, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  run(root, join(packages, 'esbuild', 'bin', 'esbuild'), 'src/cli/main.ts',
    '--bundle', '--platform=node', '--target=node24', '--format=cjs', `--outfile=${at('main.cjs')}`)
  writeFileSync(at('sea.json'), JSON.stringify({
    main: 'main.cjs',
    output: 'blob',
    disableExperimentalSEAWarning: true,
    // NODE_OPTIONS are meant for the job, not for a program that happens to be made with Node. useCodeCache would save 1 ms of 31.
    execArgvExtension: 'none'
  }))
  run(building, '--experimental-sea-config', 'sea.json')
  copyFileSync(node, at('job-access'))
  run(building, join(packages, 'postject', 'dist', 'cli.js'), 'job-access', 'NODE_SEA_BLOB', 'blob',
    '--sentinel-fuse', 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2')
  chmodSync(at('job-access'), 0o755)
  const version = run(building, '--version').toString().trim()
  writeFileSync(at('LICENSES'), [
    'The file job-access contains job-access and Node.js. These are their licences.',
    `job-access\n\n${readFileSync(join(root, 'LICENSE'), 'utf8')}`,
    `Node.js ${version}, with what is in it\n\n${readFileSync(join(nodePackage, 'LICENSE'), 'utf8')}`
  ].join(`\n${'='.repeat(80)}\n\n`))
  for (const name of ['LICENSES', 'job-access']) renameSync(at(name), join(folder, name))
  console.log(join(folder, 'job-access'))
} finally {
  rmSync(building, { recursive: true, force: true })
}
