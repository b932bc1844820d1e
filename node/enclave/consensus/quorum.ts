/**
 * Majorities.
 *
 * Trusted. Pure.
 */

/** How many of `nodeCount` nodes are a majority. */
export function majority(nodeCount: number): number {
  return Math.floor(nodeCount / 2) + 1;
}

/** The highest number that a majority has reached, one number a node; 0 for no nodes. */
export function reachedByMajority(numbers: number[]): number {
  numbers.sort((a, b) => b - a);
  return numbers[majority(numbers.length) - 1] ?? 0;
}
