/** One training of the experiment. */
export interface Cell {
  readonly method: string;
  readonly seed: number;
  /** Training rows. */
  readonly size: number;
}

/** The name of a cell's folder. */
export function cellName({ method, seed, size }: Cell): string {
  return `${method}-seed${seed}-rows${size}`;
}

/** How the budget drops cells, in words. */
export const dropOrder =
  "cells run in rounds of all methods, seed after seed and in each seed from the largest training size to the smallest; a budget drops whole rounds from the end, so the last seeds' smallest sizes go first";

/** The cells in rounds of one seed and one size, all methods in each, in the order in which they run. */
export function rounds(methods: readonly string[], seeds: readonly number[], sizes: readonly number[]): readonly (readonly Cell[])[] {
  const falling = [...new Set(sizes)].sort((a, b) => b - a);
  return seeds.flatMap((seed) => falling.map((size) => methods.map((method) => ({ method, seed, size }))));
}

/** What a cell or a search did and how long it took, to tell how long others will take. */
export interface Timing {
  readonly method: string;
  /** See {@link workOf}. */
  readonly work: number;
  readonly seconds: number;
}

/** Work of a training in rows: each pass over a training row, and a third of that for each row that is only judged. */
export function workOf(passes: number, judged: number): number {
  return passes + judged / 3;
}

/**
 * Seconds that work of a method is likely to take: at the rate of what that method did so far, of what the slowest one did where it did
 * nothing yet; null where nothing was done at all.
 */
export function estimateSeconds(method: string, work: number, timings: readonly Timing[]): number | null {
  const rates = new Map<string, { work: number; seconds: number }>();
  for (const each of timings) {
    const sum = rates.get(each.method) ?? { work: 0, seconds: 0 };
    rates.set(each.method, { work: sum.work + each.work, seconds: sum.seconds + each.seconds });
  }
  if (rates.size === 0) return null;
  const rate = ({ work, seconds }: { work: number; seconds: number }): number => seconds / work;
  const own = rates.get(method);
  return work * (own === undefined ? Math.max(...[...rates.values()].map(rate)) : rate(own));
}

/** Seconds in a text such as `90s`, `30m`, `1.5h` or `1h30m`; undefined for any other. */
export function secondsIn(text: string): number | undefined {
  const parts = /^(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?$/.exec(text.trim());
  if (parts === null || text.trim() === "") return undefined;
  const [hours, minutes, seconds] = parts.slice(1).map((part) => Number(part ?? 0)) as [number, number, number];
  return 3600 * hours + 60 * minutes + seconds;
}
