import fc from 'fast-check'
import t from 'tap'
import { nameAllowed, bucketFaults, maxPrefixLength, readPrefix } from '../../src/policy/entries.ts'

t.test('bucket names', async t => {
  const good = ['abc', 'a'.repeat(63), 'acmeco-base-models', 'my.bucket.1', '1bucket', 'a-.-b', '1.2.3', '1.2.3.4.5', '1.2.3.x',
    'xn-bucket', 'bucket-s3aliases', 'amzn-s3-bucket']
  for (const name of good) t.strictSame(bucketFaults(name), [], name)

  const bad: Record<string, RegExp[]> = {
    '': [/3 to 63/],
    ab: [/3 to 63/],
    [`${'a'.repeat(64)}`]: [/3 to 63/],
    Acme: [/lower-case/],
    acme_models: [/lower-case/],
    'acme*': [/lower-case/],
    'acme?': [/lower-case/],
    // eslint-disable-next-line no-template-curly-in-string -- an IAM policy variable, as an attacker would write it
    '${aws:username}': [/lower-case/],
    'acme/models': [/lower-case/],
    'acme models': [/lower-case/],
    'acme\n': [/lower-case/],
    аcme: [/lower-case/],
    '-acme': [/begins and ends/],
    'acme-': [/begins and ends/],
    '.acme': [/begins and ends/],
    'acme.': [/begins and ends/],
    'ac..me': [/two dots/],
    '192.168.5.4': [/IP address/],
    '999.999.999.999': [/IP address/],
    'xn--acme': [/xn--/],
    'sthree-acme': [/sthree-/],
    'sthree-configurator': [/sthree-/],
    'amzn-s3-demo-acme': [/amzn-s3-demo-/],
    'acme-s3alias': [/-s3alias/],
    'acme--ol-s3': [/--ol-s3/],
    'acme.mrap': [/\.mrap/],
    'acme--x-s3': [/--x-s3/],
    'acme--table-s3': [/--table-s3/],
    '-A..': [/lower-case/, /begins and ends/, /two dots/]
  }
  for (const [name, details] of Object.entries(bad)) {
    const faults = bucketFaults(name)
    t.equal(faults.length, details.length, `${JSON.stringify(name)}: ${JSON.stringify(faults)}`)
    for (const [index, detail] of details.entries()) t.match(faults[index], { detail, hint: /\w+/ }, JSON.stringify(name))
  }
})

t.test('prefixes', async t => {
  const good: Record<string, string> = {
    'runs/42/': 'runs/42/',
    'runs/42': 'runs/42/',
    a: 'a/',
    '.hidden': '.hidden/',
    '...': '.../',
    'a..b/c.': 'a..b/c./',
    "a!b-c_d.e'f(g)h=i+j@k,l:m": "a!b-c_d.e'f(g)h=i+j@k,l:m/",
    ['x'.repeat(maxPrefixLength - 1)]: `${'x'.repeat(maxPrefixLength - 1)}/`,
    [`${'x'.repeat(maxPrefixLength - 1)}/`]: `${'x'.repeat(maxPrefixLength - 1)}/`
  }
  for (const [text, prefix] of Object.entries(good)) t.strictSame(readPrefix(text), { ok: true, prefix }, text)

  const bad: Record<string, RegExp[]> = {
    '': [/is empty/],
    '/': [/begins with a slash/],
    '/runs': [/begins with a slash/],
    'runs//42': [/empty segment/],
    'runs/42//': [/empty segment/],
    './runs': [/`\.` or/],
    'runs/../other': [/`\.` or/],
    'runs/..': [/`\.` or/],
    '..': [/`\.` or/],
    'runs/*': [/`\*`/],
    'runs/4?': [/`\?`/],
    // eslint-disable-next-line no-template-curly-in-string -- an IAM policy variable, as an attacker would write it
    'home/${aws:username}': [/`\$`, `\{`, `\}`/],
    'runs/$': [/`\$`/],
    'runs\\42': [/`\\`/],
    'runs 42': [/U\+0020/],
    'runs/42\n': [/U\+000A/],
    'runs/\u0000': [/U\+0000/],
    'größe/': [/U\+00F6, U\+00DF/],
    'runs/\u{1F600}': [/U\+1F600/],
    'runs/\uD800': [/U\+D800/],
    'a"b': [/`"`/],
    'a#b%c&d;e<f>g[h]i^j`k|l~m': [/`#`, `%`, `&`, `;`, `<`, `>`, `\[`, `\]`, `\^`, ```, `\|`, `~`/],
    ['x'.repeat(maxPrefixLength)]: [/513 characters/],
    '/a//../*': [/`\*`/, /begins with a slash/, /empty segment/, /`\.` or/]
  }
  for (const [text, details] of Object.entries(bad)) {
    const read = readPrefix(text)
    if (read.ok) {
      t.fail(`refused: ${JSON.stringify(text)}`)
      continue
    }
    t.equal(read.faults.length, details.length, `${JSON.stringify(text)}: ${JSON.stringify(read.faults)}`)
    for (const [index, detail] of details.entries()) t.match(read.faults[index], { detail, hint: /\w+/ }, JSON.stringify(text))
  }
})

t.test('an accepted prefix has only allowed characters, ends with one slash, and stays the same when it is read again', async t => {
  const pieces = fc.constantFrom('a', 'Z', '9', '/', '.', '-', '_', '*', '?', '$', '{', '}', ' ', '\\', '\n', 'é', '!', '(', ')', '@', ':')
  fc.assert(fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.array(pieces).map(parts => parts.join(''))), text => {
    const read = readPrefix(text)
    if (!read.ok) return
    if (!/^[A-Za-z0-9!_.'()=+@,:-]+(\/[A-Za-z0-9!_.'()=+@,:-]+)*\/$/.test(read.prefix)) throw new Error(read.prefix)
    if (read.prefix !== text && read.prefix !== `${text}/`) throw new Error('changed')
    const again = readPrefix(read.prefix)
    if (!again.ok || again.prefix !== read.prefix) throw new Error('not a fixed point')
  }), { numRuns: 1000 })
})

t.test('patterns of allowed buckets', async t => {
  const table: [string, string[], boolean][] = [
    ['acme', [], true],
    ['acme', ['acme'], true],
    ['acme', ['acme2', 'acme'], true],
    ['acme', ['acm'], false],
    ['acme', ['*'], true],
    ['acme', ['acme*'], true],
    ['acme', ['*acme'], true],
    ['acme', ['a*e'], true],
    ['acme', ['a*m*e'], true],
    ['acme', ['a*me*me'], false],
    ['ame', ['am*me'], false],
    ['acme-x-datasets', ['acme-*-datasets'], true],
    ['acme-datasets', ['acme-*-datasets'], false],
    ['acme', [''], false],
    ['acme', ['acm?'], false],
    ['axme', ['a.me'], false],
    ['acme', ['[a]cme'], false],
    ['evil-acme-', ['acme-*'], false],
    ['abab', ['*ab'], true],
    ['aXbXc', ['a**c'], true]
  ]
  for (const [name, patterns, fits] of table) t.equal(nameAllowed(name, patterns), fits, `${name} ${JSON.stringify(patterns)}`)
  // An oracle that shares no code: the pattern as a regular expression.
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 })
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 8 }), text, (name, pattern) =>
    nameAllowed(name, [pattern]) === new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(name)), { numRuns: 2000 })
})
