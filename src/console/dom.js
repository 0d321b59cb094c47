// @ts-check

/**
 * Elements without markup: whatever a caller or the service sends becomes a text node or an attribute's value, never HTML. The page's CSP
 * holds the same from the other side (trusted types of no policy: an assignment to innerHTML throws).
 *
 * @typedef {Node | string | number | null | undefined | false} Child
 * @typedef {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} Attributes
 */

/**
 * @param {Element} element
 * @param {Attributes} attributes `onclick` and the like add a listener; true, false and null set or leave out
 * @param {Child[]} children
 */
const build = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value)
    else if (value === true) element.setAttribute(name, '')
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value))
  }
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) element.append(child instanceof Node ? child : String(child))
  }
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export const el = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag)
  build(element, attributes, children)
  return element
}

/**
 * @param {string} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 */
export const svg = (tag, attributes = {}, ...children) => {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag)
  build(element, attributes, children)
  return element
}

/**
 * Places through the CSSOM, which the CSP allows, where a style attribute is refused.
 *
 * @template {HTMLElement} T
 * @param {T} element
 * @param {Record<string, string>} properties
 */
export const styled = (element, properties) => {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value)
  return element
}

let ids = 0
/** @param {string} stem */
export const newId = stem => `${stem}-${++ids}`
