import { alpha } from "./statistics.js";
import type { MethodSummary, PairTest } from "./summary.js";
import { figure, size, time, whole } from "./words.js";

/** The method for each purpose in two sentences, each with its reason; of methods that the data can't tell from the best one, the one that serves the purpose best. */
export function recommend(
  methods: readonly MethodSummary[],
  tests: readonly PairTest[],
  headline: string,
  rows: number,
): readonly string[] {
  const [best] = methods;
  if (best === undefined) return ["No method was measured, so there is nothing to recommend."];
  const tied = methods.filter(
    ({ method }) =>
      method !== best.method && tests.some((test) => test.first === best.method && test.second === method && test.adjusted >= alpha),
  );
  const score = `${headline} ${figure(best.score.value)}, 95 % interval ${figure(best.score.low)} to ${figure(best.score.high)}`;
  return [accuracySentence(best, tied, methods, tests, score, rows), otherPurposes(best, tied)];
}

function accuracySentence(
  best: MethodSummary,
  tied: readonly MethodSummary[],
  methods: readonly MethodSummary[],
  tests: readonly PairTest[],
  score: string,
  rows: number,
): string {
  const opening = `For ${/loss/.test(score) ? "the lowest loss" : "accuracy"}, take ${best.method} (${score})`;
  if (methods.length === 1) return `${opening}: it is the only method that was measured.`;
  if (tests.length === 0) return `${opening}, though ${rows} rows are too few to test whether its lead is more than chance.`;
  if (tied.length === 0)
    return `${opening}: its lead over every other method is larger than chance explains (p < 0.05 after Holm's correction).`;
  const smallest = least([best, ...tied], (each) => each.trained_parameters);
  const others = tied.map(({ method }) => method).join(", ");
  const hint =
    smallest === best
      ? "and it trains the fewest numbers of them"
      : `of which ${smallest.method} trains the fewest numbers (${whole(smallest.trained_parameters)})`;
  return `${opening}, which these ${rows} rows can't tell from ${others}, ${hint}.`;
}

/** From its files to its answer. */
const arrival = (each: MethodSummary): number => each.load_seconds + each.switch_seconds + each.latency_p50_seconds;

function otherPurposes(best: MethodSummary, tied: readonly MethodSummary[]): string {
  const pool = [best, ...tied];
  if (pool.length === 1)
    return `Nothing else measured comes as close, so it also serves where size or speed matters (${size(best.adapter_bytes)} a file, ${time(arrival(best))} from a file in memory to an answer, ${time(best.train_seconds)} of training), unless a lower figure is acceptable: the table says what that buys.`;
  const smallest = least(pool, (each) => each.adapter_bytes);
  const quickest = least(pool, arrival);
  const trained = least(pool, (each) => each.train_seconds);
  return `Among these, for the smallest file take ${smallest.method} (${size(smallest.adapter_bytes)}), for real-time switching ${quickest.method} (${time(arrival(quickest))} from a file in memory to an answer), and for the shortest training ${trained.method} (${time(trained.train_seconds)}).`;
}

function least<T>(items: readonly T[], of: (item: T) => number): T {
  return items.reduce((a, b) => (of(b) < of(a) ? b : a));
}
