import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { here } from '../../servers/daemon.ts'
import { diagnose, stores } from './stores.ts'

/** `npm run stores [-- NAME…]`: runs the doctor on every store that can be started here, and writes docs/stores/NAME.json. */
const named = process.argv.slice(2)
for (const name of named.length > 0 ? named : Object.keys(stores)) {
  const [{ file } = { file: null }] = await diagnose(name)
  writeFileSync(join(here, '..', '..', 'docs', 'stores', `${name}.json`), `${JSON.stringify(file, null, 2)}\n`)
  console.log(name, JSON.stringify(file?.enforces))
}
