/** The fenced blocks of a page, in order. What they are is in their info string, which Markdown does not show. */
export interface Block {
  page: string
  /** Of the opening fence, from 1. */
  line: number
  language: string
  /** What follows the language, e.g. `start` or `POST /v1/grants`; without `needs=…`. */
  words: string[]
  /** What it needs that a machine with nothing but Node lacks. */
  needs: string | null
  text: string
}

export const blocksOf = (page: string, markdown: string): Block[] => {
  const blocks: Block[] = []
  let open: { indent: string, block: Block, lines: string[] } | null = null
  for (const [index, line] of markdown.split('\n').entries()) {
    const [, indent = '', fence, info = ''] = /^( *)(`{3,}|~{3,})(.*)$/.exec(line) ?? []
    if (fence !== undefined && fence !== '```') throw new Error(`${page}:${index + 1}: fences are three backticks here`)
    if (open) {
      if (fence === undefined) open.lines.push(line.startsWith(open.indent) ? line.slice(open.indent.length) : line)
      else if (info !== '') throw new Error(`${page}:${index + 1}: a block in a block`)
      else {
        blocks.push({ ...open.block, text: open.lines.map(each => `${each}\n`).join('') })
        open = null
      }
    } else if (fence !== undefined) {
      const [language = '', ...words] = info.trim().split(/ +/)
      const [needs] = words.filter(word => word.startsWith('needs='))
      open = {
        indent,
        block: { page, line: index + 1, language, words: words.filter(word => word !== needs), needs: needs?.slice('needs='.length) ?? null, text: '' },
        lines: []
      }
    }
  }
  if (open) throw new Error(`${page}:${open.block.line}: the block has no end`)
  return blocks
}

export const nameOf = ({ page, line, language, words, text }: Block): string =>
  `${page}:${line} ${[language, ...words].join(' ')}: ${text.split('\n')[0]?.slice(0, 60) ?? ''}`
