import { keyOf, philox, type RandomKey } from "../core/random.js";
import { ShapeError } from "../errors.js";

/** Bounds of a confidence interval. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** A test's two-sided p-value, and by which test. */
export interface TestResult {
  readonly p: number;
  readonly test: "McNemar, exact" | "McNemar, chi-squared with continuity correction" | "paired permutation, exact" | "paired permutation";
}

/** Probability of a false alarm that is allowed, over all pairs together. */
export const alpha = 0.05;
/** Discordant rows from which McNemar's chi-squared approximation stands in for the exact test. */
const enoughForChiSquared = 25;
/** Rows that differ up to which all sign flips are tried. */
const mostEnumerated = 12;
/** Random sign flips beyond that. */
const permutations = 10_000;

/**
 * The rows [n] of one bootstrap resample, drawn with replacement: a function of the key, n and the resample's number only. Each row's chance is
 * 1/n to within 2^-32, which no number of resamples could show.
 */
export function resampledRows(n: number, key: RandomKey, resample: number): Int32Array {
  const words = new Int32Array(4);
  const rows = new Int32Array(n);
  for (let i = 0; i < n; i++) {
    if (i % 4 === 0) philox(words, key, i >>> 2, resample);
    rows[i] = Math.floor((words[i % 4]! >>> 0) * n * 2 ** -32);
  }
  return rows;
}

/** The statistic on each resample of n rows; the same key and n give the same rows to every statistic, so that replicates of several can be averaged. */
export function replicates(n: number, resamples: number, seed: number, statistic: (rows: Int32Array) => number): number[] {
  const key = keyOf(seed, "bootstrap");
  return Array.from({ length: resamples }, (_, b) => statistic(resampledRows(n, key, b)));
}

/**
 * The percentile interval (Efron 1981; `scipy.stats.bootstrap(method="percentile")`): quantiles of the replicates, interpolated linearly as
 * numpy.percentile does. Replicates that are not numbers are left out; null where fewer than two are left.
 */
export function percentileInterval(values: readonly number[], level = 0.95): Interval | null {
  const sorted = Float64Array.from(values.filter((value) => Number.isFinite(value))).sort();
  if (sorted.length < 2) return null;
  return { low: quantile(sorted, (1 - level) / 2), high: quantile(sorted, (1 + level) / 2) };
}

/** A quantile of sorted numbers, at q in [0, 1], interpolated linearly (Hyndman and Fan's type 7). */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below]! + (at - below) * (sorted[above]! - sorted[below]!);
}

/**
 * McNemar's test (1947) on `a` rows that only the first method has right and `b` that only the second has: the exact binomial test below 25 such
 * rows, from there chi-squared with Edwards' continuity correction, as statsmodels' `mcnemar`.
 */
export function mcnemar(a: number, b: number): TestResult {
  const n = a + b;
  if (n >= enoughForChiSquared) {
    const chiSquared = Math.max(0, Math.abs(a - b) - 1) ** 2 / n;
    return { p: erfc(Math.sqrt(chiSquared / 2)), test: "McNemar, chi-squared with continuity correction" };
  }
  let term = 0.5 ** n;
  let tail = term;
  for (let k = 0; k < Math.min(a, b); k++) {
    term *= (n - k) / (k + 1);
    tail += term;
  }
  return { p: Math.min(1, 2 * tail), test: "McNemar, exact" };
}

/**
 * The paired permutation test (Fisher 1935): how often the sum of the differences [n] is at least as far from 0 when each difference's sign is
 * drawn anew. All sign flips are tried for at most 12 differences other than 0, else so many drawn ones, where p is (hits + 1) / (draws + 1).
 */
export function pairedPermutation(differences: readonly number[], seed: number, draws = permutations): TestResult {
  const apart = differences.filter((value) => value !== 0);
  return flipping(apart.length, seed, draws, (flipped) =>
    Math.abs(apart.reduce((sum, value, i) => sum + (flipped(i) ? -value : value), 0)),
  );
}

/** What rows add to a score: one array [rows][counts] a seed. */
export type SeedCounts = readonly (readonly (readonly number[])[])[];

type Score = (sums: readonly number[]) => number;

/** The mean over seeds of the score of counts summed over rows. */
export function meanScore(seeds: SeedCounts, score: Score): number {
  return scoreOf(sumsOf(joined(seeds)), seeds.length, score);
}

/**
 * The paired permutation test for a score of counts summed over rows, such as F1 (approximate randomisation, Noreen 1989; Yeh 2000): how often two
 * methods' scores, means over seeds, are at least as far apart when each row's counts are exchanged between the methods or not, by chance. A row's
 * counts are exchanged in all seeds together. Tried and drawn as in {@link pairedPermutation}.
 */
export function exchangePermutation(first: SeedCounts, second: SeedCounts, score: Score, seed: number, draws = permutations): TestResult {
  const [a, b] = [joined(first), joined(second)];
  const [sumsA, sumsB] = [sumsOf(a), sumsOf(b)];
  const moves = a.map((row, i) => row.map((value, k) => b[i]![k]! - value)).filter((move) => move.some((value) => value !== 0));
  const moved = new Float64Array(sumsA.length);
  return flipping(moves.length, seed, draws, (flipped) => {
    moved.fill(0);
    for (let i = 0; i < moves.length; i++) if (flipped(i)) for (let k = 0; k < moved.length; k++) moved[k]! += moves[i]![k]!;
    const scoreA = scoreOf(
      sumsA.map((sum, k) => sum + moved[k]!),
      first.length,
      score,
    );
    const scoreB = scoreOf(
      sumsB.map((sum, k) => sum - moved[k]!),
      first.length,
      score,
    );
    return Math.abs(scoreA - scoreB);
  });
}

/** A row's counts of all seeds one after the other: [rows][seeds · counts]. */
function joined(seeds: SeedCounts): readonly Float64Array[] {
  return seeds[0]!.map((_, row) => Float64Array.from(seeds.flatMap((rows) => rows[row]!)));
}

function sumsOf(rows: readonly Float64Array[]): number[] {
  return Array.from(rows[0] ?? [], (_, k) => rows.reduce((sum, row) => sum + row[k]!, 0));
}

/** The mean of the scores of all seeds' sums [seeds · counts]. */
function scoreOf(sums: readonly number[], seeds: number, score: Score): number {
  const counts = sums.length / seeds;
  let total = 0;
  for (let s = 0; s < seeds; s++) total += score(sums.slice(s * counts, (s + 1) * counts));
  return total / seeds;
}

/** How often a statistic of n signs, some of them flipped, is at least what it is with none flipped. */
function flipping(n: number, seed: number, draws: number, statistic: (flipped: (i: number) => boolean) => number): TestResult {
  const limit = statistic(() => false) * (1 - 1e-12); // equal sums in another order count as equal
  let hits = 0;
  if (n <= mostEnumerated) {
    const all = 2 ** n;
    for (let flips = 0; flips < all; flips++) if (statistic((i) => ((flips >>> i) & 1) === 1) >= limit) hits++;
    return { p: hits / all, test: "paired permutation, exact" };
  }
  const key = keyOf(seed, "permutation");
  const words = new Int32Array(4 * Math.ceil(n / 128));
  const block = new Int32Array(4);
  for (let draw = 0; draw < draws; draw++) {
    for (let i = 0; 4 * i < words.length; i++) {
      philox(block, key, i, draw);
      words.set(block, 4 * i);
    }
    if (statistic((i) => ((words[i >>> 5]! >>> (i & 31)) & 1) === 1) >= limit) hits++;
  }
  return { p: (hits + 1) / (draws + 1), test: "paired permutation" };
}

/**
 * A paired test of two methods' outcomes [n] on the same rows: McNemar's where all of them are right (1) or wrong (0), else the permutation test.
 * Throws ShapeError for different numbers of rows.
 */
export function pairedTest(first: readonly number[], second: readonly number[], seed: number, draws = permutations): TestResult {
  if (first.length !== second.length) throw new ShapeError(`a paired test of ${first.length} and ${second.length} rows`);
  const rightOrWrong = [...first, ...second].every((value) => value === 0 || value === 1);
  const differences = first.map((value, i) => value - second[i]!);
  if (!rightOrWrong) return pairedPermutation(differences, seed, draws);
  return mcnemar(differences.filter((value) => value > 0).length, differences.filter((value) => value < 0).length);
}

/** p-values adjusted for their number by Holm's step-down method (1979), in their order: statsmodels' `multipletests(method="holm")`. */
export function holm(ps: readonly number[]): number[] {
  const order = ps.map((_, i) => i).sort((a, b) => ps[a]! - ps[b]!);
  const adjusted = new Array<number>(ps.length).fill(1);
  let highest = 0;
  for (const [rank, i] of order.entries()) {
    highest = Math.max(highest, Math.min(1, (ps.length - rank) * ps[i]!));
    adjusted[i] = highest;
  }
  return adjusted;
}

/** 1 − erf(x) for x ≥ 0, to about 1e-14: erf's series (Abramowitz and Stegun 7.1.6) below 3, the continued fraction 7.1.14 from there. */
export function erfc(x: number): number {
  if (x < 3) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * sum; n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  let fraction = x;
  for (let n = 60; n > 0; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * fraction);
}
