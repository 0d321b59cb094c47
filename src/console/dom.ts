/**
 * Elements without markup: whatever a caller or the service sends becomes a text node or an attribute's value, never HTML. The page's CSP
 * holds the same from the other side (trusted types of no policy: an assignment to innerHTML throws).
 */
type Child = Node | string | number | null | undefined | false

type Listeners = { [Name in keyof HTMLElementEventMap as `on${Name}`]?: (event: HTMLElementEventMap[Name]) => void | Promise<void> }
/**
 * `onclick` and the like add a listener; true, false and null set or leave out. Nobody waits for the promise of a listener: it shows its
 * own errors.
 */
type Attributes = Listeners & Record<string, string | number | boolean | null | undefined | ((event: never) => void | Promise<void>)>

const build = <T extends Element>(element: T, attributes: Attributes, children: Child[]): T => {
  for (const [name, value] of Object.entries(attributes)) {
    // Its name says which event it takes: see Listeners.
    if (typeof value === 'function') element.addEventListener(name.slice(2), value as EventListener)
    else if (value === true) element.setAttribute(name, '')
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value))
  }
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) element.append(child instanceof Node ? child : String(child))
  }
  return element
}

export const el = <Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag, attributes: Attributes = {}, ...children: Child[]
): HTMLElementTagNameMap[Tag] => build(document.createElement(tag), attributes, children)

export const svg = <Tag extends keyof SVGElementTagNameMap>(
  tag: Tag, attributes: Attributes = {}, ...children: Child[]
): SVGElementTagNameMap[Tag] => build(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children)

/** Places through the CSSOM, which the CSP allows, where a style attribute is refused. */
export const styled = <T extends HTMLElement>(element: T, properties: Record<string, string>): T => {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value)
  return element
}

/** `12,345`. */
export const counted = (count: number): string => count.toLocaleString('en')

let ids = 0
export const newId = (stem: string): string => `${stem}-${++ids}`
