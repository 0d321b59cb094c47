const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\r': '&#xD;' }
const special = /[&<>"\r]/
// XML 1.0 has no way to write these, escaped or not (production [2] Char).
// eslint-disable-next-line no-control-regex
const unwritable = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g

/** Text as XML character data. Characters that XML cannot carry become U+FFFD. */
export function escape (text: string): string {
  const plain = text.toWellFormed().replace(unwritable, '\ufffd')
  return special.test(plain) ? plain.replace(/[&<>"\r]/g, (c) => entities[c] ?? c) : plain
}

export function element (name: string, value: string | number | boolean): string {
  return `<${name}>${typeof value === 'string' ? escape(value) : value}</${name}>`
}

/** An element for a value that may be absent: nothing then. */
export function optional (name: string, value: string | number | null): string {
  return value === null ? '' : element(name, value)
}

/** `items` are XML already. */
export function list (name: string, items: readonly string[]): string {
  if (items.length === 0) return `<${name}/>`
  return `<${name}><member>${items.join('</member><member>')}</member></${name}>`
}

/** IAM and STS write instants to the second. */
export function instant (name: string, at: Date): string {
  return `<${name}>${at.toISOString().slice(0, 19)}Z</${name}>`
}

/** @param result XML of the Result element's content; null for the actions that have no Result. */
export function response (action: string, namespace: string, requestId: string, result: string | null): string {
  const body = result === null ? '' : `<${action}Result>${result}</${action}Result>`
  return `<${action}Response xmlns="${namespace}">${body}` +
    `<ResponseMetadata><RequestId>${requestId}</RequestId></ResponseMetadata></${action}Response>`
}

export function errorResponse (namespace: string, requestId: string, status: number, code: string, message: string): string {
  const type = status >= 500 ? 'Receiver' : 'Sender'
  return `<ErrorResponse xmlns="${namespace}"><Error><Type>${type}</Type>${element('Code', code)}` +
    `${element('Message', message)}</Error><RequestId>${requestId}</RequestId></ErrorResponse>`
}
