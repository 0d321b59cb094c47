import { DatabaseSync } from 'node:sqlite'

/** A process that holds the write lock of the file until it gets SIGTERM. Prints a line when it has the lock. */
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
