import t from 'tap'
import { atMostEvery } from '../../src/http/at-most-every.ts'

t.test('work is done once per interval, and its answer shared, a failure too', async t => {
  let now = 0
  let done = 0
  const ask = atMostEvery(1000, () => now, async () => {
    done++
    if (done === 2) throw new Error('down')
    return done
  })
  t.strictSame(await Promise.all([ask(), ask()]), [1, 1])
  now = 999
  t.equal(await ask(), 1)
  now = 1000
  await t.rejects(ask(), { message: 'down' })
  now = 1500
  await t.rejects(ask(), { message: 'down' })
  now = 2000
  t.equal(await ask(), 3)
  now = 0
  t.equal(await ask(), 4, 'a clock that was set back')
  t.equal(done, 4)
})
