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
    'acme-s3alias': [/alias of an access point/],
    'acme--ol-s3': [/Object Lambda/],
    'acme.mrap': [/Multi-Region/],
    'acme--use1-az4--x-s3': [/a directory bucket/],
    'acme--use1-az4--xa-s3': [/access point of a directory bucket/],
    'acme--op-s3': [/Outposts/],
    'acme--table-s3': [/table bucket/],
    'arn:aws:s3:::acme': [/the ARN of a bucket/],
    'arn:aws-cn:s3:::acme/runs/*': [/the ARN of objects/],
    'arn:aws:s3:eu-west-1:111122223333:accesspoint/acme': [/the ARN of an access point/],
    'arn:aws:s3:eu-west-1:111122223333:accesspoint:acme': [/the ARN of an access point/],
    'arn:aws:s3::111122223333:accesspoint/mfzwi23gnjvgw.mrap': [/Multi-Region/],
    'arn:aws:s3-object-lambda:eu-west-1:111122223333:accesspoint/acme': [/Object Lambda/],
    'arn:aws:s3-outposts:eu-west-1:111122223333:outpost/op-1/bucket/acme': [/Outposts/],
    'arn:aws:s3express:us-east-1:111122223333:bucket/acme--use1-az4--x-s3': [/a directory bucket/],
    'arn:aws:s3express:us-east-1:111122223333:accesspoint/acme--use1-az4--xa-s3': [/access point of a directory bucket/],
    'arn:aws:s3tables:eu-west-1:111122223333:bucket/acme': [/table bucket/],
    'arn:aws:kms:eu-west-1:111122223333:key/mrk-1': [/not one of a bucket/],
    's3://acme/runs/': [/a URL/],
    'https://acme.s3.eu-west-1.amazonaws.com': [/an address of the web/],
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
    'date=2026-11-25 00%3A00%3A00': 'date=2026-11-25 00%3A00%3A00/',
    'a"b#c&d;e<f>g[h]i^j`k|l~m{n}': 'a"b#c&d;e<f>g[h]i^j`k|l~m{n}/',
    'größe/\u00a1\u00ff': 'größe/\u00a1\u00ff/',
    ['é'.repeat(255)]: `${'é'.repeat(255)}/`,
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
    'runs/*': [/has `\*` at character 6 \(a wildcard to IAM\)/],
    'runs/4?': [/`\?` at character 7/],
    // eslint-disable-next-line no-template-curly-in-string -- an IAM policy variable, as an attacker would write it
    'home/${aws:username}': [/`\$` at character 6 \(the start of a variable to IAM\)/],
    'runs\\42': [/`\\` at character 5 \(an escape/],
    'runs/42\n': [/U\+000A at character 8 \(a control character\)/],
    'runs/\u0000': [/U\+0000/],
    'runs/\u007f\u0085': [/U\+007F at character 6 .*, U\+0085 at character 7/],
    'a\u00a0b\u00ad': [/U\+00A0 at character 2 \(cannot be seen\), U\+00AD at character 4/],
    'runs/\u{1F600}/\u0142': [/U\+1F600 at character 6 \(beyond U\+00FF.*, U\+0142 at character 8/],
    'runs/\uD800': [/U\+D800 at character 6 \(half a character/],
    'e\u0301/': [/U\+0301 at character 2 \(beyond/],
    'абвгдежзи/': [/U\+0437 at character 8 .*, 1 more\.$/],
    ' runs': [/begins or ends with a space/],
    'runs ': [/begins or ends with a space/],
    ['x'.repeat(maxPrefixLength)]: [/513 bytes with its last slash/],
    ['é'.repeat(256)]: [/513 bytes/],
    '/a//../*': [/`\*` at character 8/, /begins with a slash/, /empty segment/, /`\.` or/]
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

t.test('a finding says what to ask for instead', async t => {
  const hints: Record<string, RegExp> = {
    'runs/*': /^Give the first 5 characters as `prefix`: the directory, with all that is in it\.$/,
    'runs/**/': /^Give the first 5 characters as `prefix`[^.]*\.$/,
    'runs/4*': /^Give the first 6 characters as `keyPrefix`: all keys that begin so\.$/,
    'runs/4*/x': /^Give the first 5 characters as `prefix`.* Or give the objects a name without it\.$/,
    'data/łódź/x/': /^Give the first 5 characters as `prefix`/,
    łódź: /^Give the objects a name without it\.$/,
    'złoty/': /^Give the first 1 characters as `keyPrefix`/,
    'cafe\u0301/': /composed form \(Unicode NFC\) could be granted, but is another key to S3/
  }
  for (const [text, hint] of Object.entries(hints)) {
    const read = readPrefix(text)
    t.match(read.ok ? {} : read.faults, [{ hint }], text)
  }
})

t.test('an accepted prefix has no character that a policy cannot carry, and stays as it is but for its last slash', async t => {
  const pieces = fc.constantFrom('a', 'Z', '9', '/', '.', '-', '_', '*', '?', '$', '{', '}', ' ', '\\', '\n', 'é', '!', '(', '[', ']', '%', '~', '#', ':', 'e\u0301', '\u00a0')
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.array(pieces).map(parts => parts.join('')), fc.string({ unit: fc.integer({ min: 32, max: 260 }).map(code => String.fromCharCode(code)) }))
  fc.assert(fc.property(text, text => {
    const read = readPrefix(text)
    if (!read.ok) return
    if (!/^[ !"#%-)+->@-[\]-~\u00a1-\u00ac\u00ae-\u00ff]+\/$/.test(read.prefix) || read.prefix.includes('//')) throw new Error(read.prefix)
    if (read.prefix !== text && read.prefix !== `${text}/`) throw new Error('changed')
    const again = readPrefix(read.prefix)
    if (!again.ok || again.prefix !== read.prefix) throw new Error('not a fixed point')
  }), { numRuns: 3000 })
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
