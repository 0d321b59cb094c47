import { setImmediate as immediate } from 'node:timers/promises'
import t from 'tap'
import { fairTurns } from '../../src/lifecycle/turns.ts'

t.test('what is ready is served between two turns', async t => {
  const turn = fairTurns()
  const order: string[] = []
  const work = async (name: string, id = 'a') => {
    await turn(id)
    order.push(name)
  }
  const all = Promise.all([work('1'), work('2'), work('3')])
  const probe = immediate().then(() => { order.push('probe') })
  await Promise.all([all, probe])
  t.strictSame(order.filter(name => name !== 'probe'), ['1', '2', '3'])
  t.ok(order.indexOf('probe') < order.indexOf('3'), order.join(' '))
})

t.test('an identity with many requests waits for itself', async t => {
  const turn = fairTurns()
  const order: string[] = []
  const work = async (id: string, name: string) => {
    await turn(id)
    order.push(name)
  }
  await Promise.all([work('many', 'm1'), work('many', 'm2'), work('many', 'm3'), work('one', 'o1'), work('two', 't1')])
  t.strictSame(order, ['m1', 'm2', 'o1', 't1', 'm3'])
})

t.test('work that fails ends its turn', async t => {
  const turn = fairTurns()
  const failed = turn('a').then(() => { throw new Error('refused') })
  await t.rejects(failed)
  await turn('a')
  t.pass('and the next one has come')
})
