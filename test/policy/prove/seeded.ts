/** A source of numbers that a seed repeats, and draws from it. */
export interface Draw {
  /** In [0, 1). */
  number: () => number
  /** Of 0 … below - 1. */
  below: (below: number) => number
  of: <T>(choices: readonly T[]) => T
  chance: (probability: number) => boolean
}

// mulberry32, by Tommy Ettinger, in the public domain
export const seeded = (seed: number): Draw => {
  let state = seed | 0
  const number = () => {
    state = state + 0x6d2b79f5 | 0
    let mixed = Math.imul(state ^ state >>> 15, 1 | state)
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed
    return ((mixed ^ mixed >>> 14) >>> 0) / 4294967296
  }
  const below = (count: number) => Math.floor(number() * count)
  return {
    number,
    below,
    of: <T>(choices: readonly T[]): T => {
      if (choices.length === 0) throw new Error('nothing to draw from')
      return choices[below(choices.length)] as T
    },
    chance: probability => number() < probability
  }
}
