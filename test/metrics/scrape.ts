/** Samples of Prometheus's text format: `name{labels}` to value. Labels in the order written. */
export const samples = (text: string): Map<string, number> => new Map(text.split('\n')
  .filter(line => line !== '' && !line.startsWith('#'))
  .map(line => {
    const at = line.lastIndexOf(' ')
    return [line.slice(0, at), Number(line.slice(at + 1))]
  }))
