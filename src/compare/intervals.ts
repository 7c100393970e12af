import type { Example, Metrics, Outputs, Target, Task } from "../tasks/task.js";
import { percentileInterval, replicates } from "./statistics.js";

/** Labelled rows with what a model gave for them. */
export interface Judged {
  readonly task: Task;
  readonly target: Target;
  readonly examples: readonly Example[];
  readonly outputs: Outputs;
}

/** A figure with its 95 % interval; null where it is not defined. */
export interface Estimate {
  readonly value: number | null;
  readonly low: number | null;
  readonly high: number | null;
}

/** Resamples behind an interval, unless told otherwise. */
export const defaultResamples = 1000;

/** How intervals are drawn. */
export interface IntervalOptions {
  readonly resamples?: number | undefined;
  readonly seed?: number | undefined;
}

/** The task's metrics and its loss under the name `loss`, on these rows of the judged ones or on all. */
export function measured({ task, target, examples, outputs }: Judged, rows?: ArrayLike<number>): Metrics {
  const pick = <T>(all: readonly T[]): readonly T[] => (rows === undefined ? all : Array.from(rows, (row) => all[row]!));
  const { loss, metrics } = task.evaluate(pick(outputs), pick(examples), target);
  return { ...metrics, loss };
}

/**
 * Each metric and the loss with its 95 % percentile bootstrap interval over rows (Efron 1981), and the replicates of each, whose resampled rows
 * depend on the number of rows and the seed only.
 */
export function bootstrapMetrics(
  judged: Judged,
  { resamples = defaultResamples, seed = 0 }: IntervalOptions = {},
): { readonly estimates: Readonly<Record<string, Estimate>>; readonly replicates: Readonly<Record<string, readonly number[]>> } {
  const whole = measured(judged);
  const names = Object.keys(whole);
  const columns: Record<string, number[]> = Object.fromEntries(names.map((name) => [name, []]));
  replicates(judged.examples.length, resamples, seed, (rows) => {
    const metrics = measured(judged, rows);
    for (const name of names) columns[name]!.push(metrics[name] ?? Number.NaN);
    return 0;
  });
  return {
    estimates: Object.fromEntries(names.map((name) => [name, estimate(whole[name] ?? null, columns[name]!)])),
    replicates: columns,
  };
}

/** A value with the percentile interval of its replicates. */
export function estimate(value: number | null, values: readonly number[]): Estimate {
  const interval = percentileInterval(values);
  return { value, low: interval?.low ?? null, high: interval?.high ?? null };
}
