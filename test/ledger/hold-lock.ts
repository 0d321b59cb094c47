import { DatabaseSync } from 'node:sqlite'

/** A process that holds the write lock of the file for some ms. Prints a line when it has the lock. */
const [path = '', ms = ''] = process.argv.slice(2)
const database = new DatabaseSync(path)
database.exec('begin immediate')
process.stdout.write('held\n')
setTimeout(() => {
  database.exec('commit')
  database.close()
}, Number(ms))
