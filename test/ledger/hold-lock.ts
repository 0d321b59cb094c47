import { DatabaseSync } from 'node:sqlite'

/** Another process that holds the file's write lock for so many ms; prints a line once it has it. */
const [path = '', ms = ''] = process.argv.slice(2)
const database = new DatabaseSync(path)
database.exec('begin immediate')
process.stdout.write('held\n')
setTimeout(() => {
  database.exec('commit')
  database.close()
}, Number(ms))
