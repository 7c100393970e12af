import { ShapeError } from "../errors.js";
import type { Tally } from "./task.js";

/** How often each truth met each prediction: `counts[i][j]` rows have truth `labels[i]` and prediction `labels[j]`. */
export interface Confusion {
  /** The labels that occur in truth or prediction, ascending. */
  readonly labels: readonly number[];
  readonly counts: readonly (readonly number[])[];
}

/** Counts pairs of truth and prediction, as `sklearn.metrics.confusion_matrix`. Throws ShapeError when the lengths differ. */
export function confusion(truth: readonly number[], predicted: readonly number[]): Confusion {
  checkLengths("confusion", truth, predicted);
  const labels = [...new Set([...truth, ...predicted])].sort((a, b) => a - b);
  const place = new Map(labels.map((label, i) => [label, i]));
  const counts = labels.map(() => labels.map(() => 0));
  truth.forEach((label, i) => {
    counts[place.get(label)!]![place.get(predicted[i]!)!]! += 1;
  });
  return { labels, counts };
}

/** Share of rows predicted right, in [0, 1]; 0 for no rows. Throws ShapeError when the lengths differ. */
export function accuracy(truth: readonly number[], predicted: readonly number[]): number {
  checkLengths("accuracy", truth, predicted);
  if (truth.length === 0) return 0;
  return truth.filter((label, i) => label === predicted[i]).length / truth.length;
}

/**
 * Mean F1 over the labels that occur in truth or prediction, each label counting the same, as
 * `sklearn.metrics.f1_score(average="macro", zero_division=0)`; 0 for no rows. Throws ShapeError when the lengths differ.
 */
export function macroF1(truth: readonly number[], predicted: readonly number[]): number {
  const { labels, counts } = confusion(truth, predicted);
  if (labels.length === 0) return 0;
  // Every label occurs somewhere, so the denominator 2·TP + FP + FN = (truths + predictions) is never 0.
  const scores = labels.map((_, k) => (2 * counts[k]![k]!) / (rowSum(counts, k) + columnSum(counts, k)));
  return total(scores) / labels.length;
}

/**
 * Matthews correlation for any number of labels (Gorodkin 2004, R_K), in [−1, 1], as `sklearn.metrics.matthews_corrcoef`;
 * 0 where truth or prediction is constant. Throws ShapeError when the lengths differ.
 */
export function matthews(truth: readonly number[], predicted: readonly number[]): number {
  const { labels, counts } = confusion(truth, predicted);
  const rows = truth.length;
  const truths = labels.map((_, k) => rowSum(counts, k));
  const predictions = labels.map((_, k) => columnSum(counts, k));
  const right = total(labels.map((_, k) => counts[k]![k]!));
  const covariance = right * rows - dot(truths, predictions);
  const spread = (rows * rows - dot(truths, truths)) * (rows * rows - dot(predictions, predictions));
  return spread === 0 ? 0 : covariance / Math.sqrt(spread);
}

/**
 * Pearson's correlation, in [−1, 1], as `scipy.stats.pearsonr`; null where it is not defined: fewer than two rows,
 * or one side constant. Throws ShapeError when the lengths differ.
 */
export function pearson(truth: readonly number[], predicted: readonly number[]): number | null {
  checkLengths("pearson", truth, predicted);
  if (truth.length < 2 || isConstant(truth) || isConstant(predicted)) return null;
  const x = centred(truth);
  const y = centred(predicted);
  const norms = Math.sqrt(dot(x, x)) * Math.sqrt(dot(y, y));
  if (norms === 0) return null;
  // Rounding can carry a perfect correlation past 1.
  return Math.max(-1, Math.min(1, dot(x, y) / norms));
}

/**
 * Pearson's correlation from sums over rows. Both sides are standardised, which leaves the correlation as it is: then two models' answers for a row
 * can be exchanged though one answers on a wider scale. A constant side correlates with nothing: 0.
 */
export const correlationTally: Tally = {
  of(answers, truth) {
    const x = standardised(answers.map(([value]) => value!));
    const y = standardised(truth.map(([value]) => value!));
    return x.map((value, row) => [1, value, value * value, y[row]!, y[row]! * y[row]!, value * y[row]!]);
  },
  score([n = 0, x = 0, xx = 0, y = 0, yy = 0, xy = 0]) {
    const spread = (xx - (x * x) / n) * (yy - (y * y) / n);
    return spread > 0 ? (xy - (x * y) / n) / Math.sqrt(spread) : 0;
  },
};

/**
 * Spearman's rank correlation, ties ranked by their average, as `scipy.stats.spearmanr`; null where Pearson's of the ranks is.
 * Throws ShapeError when the lengths differ.
 */
export function spearman(truth: readonly number[], predicted: readonly number[]): number | null {
  checkLengths("spearman", truth, predicted);
  return pearson(averageRanks(truth), averageRanks(predicted));
}

/** Mean squared error, in the labels' unit squared; 0 for no rows. Throws ShapeError when the lengths differ. */
export function mse(truth: readonly number[], predicted: readonly number[]): number {
  checkLengths("mse", truth, predicted);
  if (truth.length === 0) return 0;
  return total(truth.map((y, i) => (y - predicted[i]!) ** 2)) / truth.length;
}

/** Ranks from 1 in ascending order; equal values share the mean of their ranks (`scipy.stats.rankdata`, average). */
export function averageRanks(values: readonly number[]): number[] {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const ranks = new Array<number>(values.length).fill(0);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && values[order[end]!] === values[order[start]!]) end++;
    for (let i = start; i < end; i++) ranks[order[i]!] = (start + 1 + end) / 2;
    start = end;
  }
  return ranks;
}

function checkLengths(metric: string, truth: readonly number[], predicted: readonly number[]): void {
  if (truth.length !== predicted.length) throw new ShapeError(`${metric}: ${truth.length} truths but ${predicted.length} predictions`);
}

const total = (x: readonly number[]): number => x.reduce((sum, value) => sum + value, 0);
const dot = (x: readonly number[], y: readonly number[]): number => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
const rowSum = (counts: Confusion["counts"], k: number): number => total(counts[k]!);
const columnSum = (counts: Confusion["counts"], k: number): number => counts.reduce((sum, row) => sum + row[k]!, 0);
const isConstant = (x: readonly number[]): boolean => x.every((value) => value === x[0]);

/** With mean 0 and standard deviation 1; all 0 for constant values. */
function standardised(x: readonly number[]): number[] {
  if (isConstant(x)) return x.map(() => 0);
  const values = centred(x);
  const deviation = Math.sqrt(dot(values, values) / x.length);
  return values.map((value) => value / deviation);
}

function centred(x: readonly number[]): number[] {
  const mean = total(x) / x.length;
  return x.map((value) => value - mean);
}
