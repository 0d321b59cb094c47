/** A process that lives so long has started well. */
const settledMs = 60_000

/** How long to wait before another process takes the place of one that ended: 0.5 s, and twice as long after each that ended soon. */
export const restartDelay = (failures: number, livedMs: number): { afterMs: number, failures: number } => {
  const before = livedMs >= settledMs ? 0 : failures
  return { afterMs: Math.min(30_000, 500 * 2 ** before), failures: before + 1 }
}
