import { DatabaseSync } from 'node:sqlite'

/** Another process that holds the file's write lock until it gets SIGTERM; prints a line once it has it. */
const [path = ''] = process.argv.slice(2)
const database = new DatabaseSync(path)
database.exec('begin immediate')
const waiting = setInterval(() => {}, 60_000)
process.once('SIGTERM', () => {
  database.exec('commit')
  database.close()
  clearInterval(waiting)
})
process.stdout.write('held\n')
