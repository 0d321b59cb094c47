export interface Place {
  /** From 1. */
  line: number
  /** From 1, in code points. */
  column: number
}

/** Where a byte of the UTF-8 form of `text` is: Cedar counts bytes, an editor counts characters. Past the end: the end. */
export const placeOfByte = (text: string, byte: number): Place => {
  let line = 1
  let column = 1
  let passed = 0
  for (const character of text) {
    if (passed >= byte) break
    passed += Buffer.byteLength(character)
    if (character === '\n') {
      line += 1
      column = 1
    } else {
      column += 1
    }
  }
  return { line, column }
}
