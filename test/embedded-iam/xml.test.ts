import t from 'tap'
import { element, errorResponse, escape, list, response } from '../../src/embedded-iam/xml.ts'

t.test('text is escaped, and what XML cannot carry is replaced', (t) => {
  t.equal(escape('a<b>&"c"\r\n\té€😀'), 'a&lt;b&gt;&amp;&quot;c&quot;&#xD;\n\té€😀')
  t.equal(escape('\u0000\u001b\ud800\ufffe'), '\ufffd\ufffd\ufffd\ufffd')
  t.equal(element('A', ']]>'), '<A>]]&gt;</A>')
  t.equal(element('A', false), '<A>false</A>')
  t.end()
})

t.test('lists, answers and errors have AWS’s form', (t) => {
  t.equal(list('L', []), '<L/>')
  t.equal(list('L', ['a', 'b']), '<L><member>a</member><member>b</member></L>')
  t.equal(response('DoIt', 'urn:x', 'r-1', '<A/>'),
    '<DoItResponse xmlns="urn:x"><DoItResult><A/></DoItResult>' +
    '<ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></DoItResponse>')
  t.equal(response('DoIt', 'urn:x', 'r-1', null),
    '<DoItResponse xmlns="urn:x"><ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></DoItResponse>')
  for (const [status, type] of [[400, 'Sender'], [404, 'Sender'], [500, 'Receiver'], [503, 'Receiver']] as const) {
    t.equal(errorResponse('urn:x', 'r-1', status, 'C', 'm<'),
      `<ErrorResponse xmlns="urn:x"><Error><Type>${type}</Type><Code>C</Code><Message>m&lt;</Message></Error>` +
      '<RequestId>r-1</RequestId></ErrorResponse>')
  }
  t.end()
})
