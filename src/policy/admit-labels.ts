import { pointerTo, type Finding } from '../problems.ts'

/** Names of the tags that the service itself puts on an IAM user begin so. */
export const ownTagPrefix = 'job-access:'

/**
 * Labels become tags of the IAM user. Source: IAM User Guide, "Tags for IAM resources": keys beginning with aws: in any case are
 * reserved, and two keys that differ only in case are one.
 *
 * @returns the labels sorted by name
 */
export const admitLabels = (labels: Record<string, string>, report: (finding: Finding) => void): Record<string, string> => {
  const seen = new Map<string, string>()
  const names = Object.keys(labels).sort()
  for (const name of names) {
    const pointer = pointerTo('/job/labels', name)
    const folded = name.toLowerCase()
    const reserved = ['aws:', ownTagPrefix].find(prefix => folded.startsWith(prefix))
    if (reserved !== undefined) {
      report({ code: 'label-invalid', pointer, detail: `Tags that begin with ${reserved} are reserved.`, hint: 'Rename the label.' })
    }
    const other = seen.get(folded)
    if (other !== undefined) {
      report({
        code: 'label-invalid', pointer, detail: `IAM sees the same tag as ${other}: case does not count.`, hint: 'Keep one of them.'
      })
    }
    seen.set(folded, name)
  }
  return Object.fromEntries(names.map(name => [name, labels[name] ?? '']))
}
