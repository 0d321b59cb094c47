import fc from 'fast-check'
import t from 'tap'
import { SortedMap } from '../../src/embedded-iam/sorted.ts'

const shortKey = fc.string({ minLength: 0, maxLength: 3, unit: fc.constantFrom('a', 'b', '/', 'é', '~') })

t.test('holds what a plain map holds, in order, whatever is done to it', (t) => {
  const step = fc.record({ key: shortKey, remove: fc.boolean() })
  fc.assert(fc.property(fc.array(step, { maxLength: 300 }), shortKey, (steps, start) => {
    const [sorted, plain] = [new SortedMap<number>(), new Map<string, number>()]
    steps.forEach(({ key, remove }, i) => {
      if (!remove) {
        sorted.set(key, i)
        plain.set(key, i)
      } else if (sorted.delete(key) !== plain.delete(key)) {
        throw new Error(`deleting ${key}`)
      }
    })
    const expected = [...plain].filter(([key]) => key >= start).sort(([a], [b]) => a < b ? -1 : 1)
    return sorted.size === plain.size && JSON.stringify([...sorted.from(start)]) === JSON.stringify(expected)
  }), { numRuns: 500 })
  t.end()
})

t.test('stays right across many chunks', (t) => {
  const sorted = new SortedMap<number>()
  const count = 20_000
  // Steps through all residues once, in no order: 7,919 is prime to 20,000.
  const keyOf = (i: number): string => String(i * 7919 % count).padStart(6, '0')
  for (let i = 0; i < count; i++) sorted.set(keyOf(i), i)
  for (let i = 0; i < count; i += 2) sorted.delete(keyOf(i))
  t.equal(sorted.size, count / 2)
  const keys = Array.from(sorted.from('010000'), ([key]) => key)
  t.equal(keys.length, count / 4)
  t.same(keys, [...keys].sort())
  t.equal(keys[0], '010001')
  for (let i = 1; i < count; i += 2) sorted.delete(keyOf(i))
  t.equal(sorted.size, 0)
  t.same([...sorted.from('')], [])
  t.end()
})
