import { mean, sampleStandardDeviation } from "simple-statistics";
import type { RowTable } from "../data/rows.js";
import type { Target, Task } from "../tasks/task.js";
import type { CellResult, EnergyUse } from "./cell.js";
import type { ExperimentResult, SearchResult } from "./experiment.js";
import { type Estimate, estimate } from "./intervals.js";
import { recommend } from "./recommendation.js";
import { alpha, exchangePermutation, holm, meanScore, pairedTest, type SeedCounts, type TestResult } from "./statistics.js";
import { figure } from "./words.js";

/** Evaluation rows below which methods are not tested against each other. */
export const leastTestRows = 20;
/** Rows shown among the worst mistakes. */
const shownMistakes = 12;

/** What was found of a method at the largest training size: means over its seeds. */
export interface MethodSummary
  extends Pick<
    CellResult,
    "trained_parameters" | "total_parameters" | "adapter_bytes" | "train_seconds" | "examples_per_second" | "peak_memory_bytes"
  > {
  readonly method: string;
  readonly seeds: readonly number[];
  readonly size: number;
  readonly learning_rate: number;
  /** The headline metric: mean over the seeds, with the interval over evaluation rows. */
  readonly score: Estimate;
  /** Standard deviation of the headline metric over the seeds; null for one seed. */
  readonly seed_deviation: number | null;
  /** All metrics and the loss, means over the seeds. */
  readonly metrics: Readonly<Record<string, number | null>>;
  readonly latency_p50_seconds: number;
  readonly latency_p95_seconds: number;
  readonly load_seconds: number;
  readonly first_call_seconds: number;
  readonly switch_seconds: number;
  readonly joules: number;
  readonly co2_grams: number;
  /** Whether no other method is at least as good with no more trained numbers. */
  readonly pareto: boolean;
}

/** A paired test of two methods. */
export interface PairTest extends TestResult {
  readonly first: string;
  readonly second: string;
  /** Mean outcome of the first less that of the second; of the headline metric where the task counts for it. */
  readonly difference: number;
  /** p after Holm's correction for the number of pairs. */
  readonly adjusted: number;
  readonly seeds: readonly number[];
}

/** A point of a learning curve: the mean over the seeds with the interval over evaluation rows. */
export interface CurvePoint extends Estimate {
  readonly method: string;
  readonly size: number;
  readonly seeds: number;
}

/** How often each label met each answer. */
export interface ConfusionTable {
  readonly method: string;
  readonly seed: number;
  readonly labels: readonly string[];
  readonly counts: readonly (readonly number[])[];
}

/** An evaluation row that many methods get wrong. */
export interface Mistake {
  /** Where the row stands. */
  readonly where: string;
  readonly text: string;
  readonly truth: string;
  readonly answers: readonly { readonly method: string; readonly answer: string; readonly wrong: boolean }[];
}

/** The findings of a comparison, apart from how it was set up. */
export interface Findings {
  readonly headline: string;
  readonly higher_is_better: boolean;
  /** What the paired tests compare, in words. */
  readonly outcome: string;
  readonly eval_rows: number;
  /** Best first. */
  readonly methods: readonly MethodSummary[];
  readonly tests: readonly PairTest[];
  /** Plain sentences on which methods the data tells apart. */
  readonly sentences: readonly string[];
  readonly recommendation: readonly string[];
  readonly curves: readonly CurvePoint[];
  readonly confusion: ConfusionTable | null;
  readonly mistakes: readonly Mistake[];
  readonly energy: Pick<EnergyUse, "measured" | "how"> | null;
  readonly searches: readonly SearchResult[];
  readonly refused: ExperimentResult["refused"];
  readonly dropped: ExperimentResult["dropped"];
}

/** What the cells show. Pure: the same cells give the same findings. */
export function summarize(result: ExperimentResult, task: Task, target: Target, evalRows: RowTable): Findings {
  const headline = task.headline(target);
  const sign = headline === "loss" ? -1 : 1;
  const largest = Math.max(...result.cells.map(({ size }) => size));
  const full = result.cells.filter(({ size }) => size === largest);
  const names = [...new Set(full.map(({ method }) => method))];
  const cellsOf = (method: string): readonly CellResult[] => full.filter((cell) => cell.method === method);
  const bare = names.map((method) => summaryOf(method, cellsOf(method), headline));
  const worth = ({ score }: { score: Estimate }): number => (score.value === null ? Number.NEGATIVE_INFINITY : sign * score.value);
  const methods = bare
    .map((each) => ({
      ...each,
      pareto: !bare.some(
        (other) =>
          worth(other) >= worth(each) &&
          other.trained_parameters <= each.trained_parameters &&
          (worth(other) > worth(each) || other.trained_parameters < each.trained_parameters),
      ),
    }))
    .sort((a, b) => worth(b) - worth(a));
  const rows = evalRows.rows.length;
  const tests =
    rows < leastTestRows
      ? []
      : pairTests(
          methods.map(({ method }) => method),
          cellsOf,
          comparing(full, task, target),
        );
  const sentences = [...verdicts(methods, tests, rows), ...constantAnswer(methods, full, target, headline)];
  const energies = full.map(({ energy }) => energy);
  return {
    headline,
    higher_is_better: sign > 0,
    outcome: task.tested(target),
    eval_rows: rows,
    methods,
    tests,
    sentences,
    recommendation: recommend(methods, tests, headline, rows),
    curves: curvesOf(result.cells, headline),
    confusion: methods.length === 0 ? null : confusionOf(cellsOf(methods[0]!.method)[0]!, target),
    mistakes: mistakesOf(
      methods.map(({ method }) => cellsOf(method)[0]!),
      target,
      evalRows,
    ),
    energy:
      energies.length === 0
        ? null
        : { measured: energies.every(({ measured }) => measured), how: energies[0]!.how.replace(/: [\d.]+ CPU seconds/, ": CPU seconds") },
    searches: result.searches,
    refused: result.refused,
    dropped: result.dropped,
  };
}

function summaryOf(method: string, cells: readonly CellResult[], headline: string): Omit<MethodSummary, "pareto"> {
  const of = (pick: (cell: CellResult) => number): number => mean(cells.map(pick));
  const memories = cells.flatMap(({ peak_memory_bytes: bytes }) => bytes ?? []);
  const values = cells.flatMap(({ metrics }) => metrics[headline]!.value ?? []);
  const [first] = cells as readonly [CellResult, ...CellResult[]];
  return {
    method,
    seeds: cells.map(({ seed }) => seed),
    size: first.size,
    learning_rate: first.learning_rate,
    score: estimateOf(cells, headline),
    seed_deviation: values.length < 2 ? null : sampleStandardDeviation(values),
    metrics: Object.fromEntries(
      Object.keys(first.metrics).map((name) => {
        const all = cells.flatMap(({ metrics }) => metrics[name]!.value ?? []);
        return [name, all.length < cells.length ? null : mean(all)];
      }),
    ),
    trained_parameters: first.trained_parameters,
    total_parameters: first.total_parameters,
    adapter_bytes: of((cell) => cell.adapter_bytes),
    train_seconds: of((cell) => cell.train_seconds),
    examples_per_second: of((cell) => cell.examples_per_second),
    peak_memory_bytes: memories.length < cells.length ? null : Math.max(...memories),
    latency_p50_seconds: of((cell) => cell.latency_seconds.p50),
    latency_p95_seconds: of((cell) => cell.latency_seconds.p95),
    load_seconds: of((cell) => cell.switch_seconds.load),
    first_call_seconds: of((cell) => cell.switch_seconds.first_call),
    switch_seconds: of((cell) => cell.switch_seconds.between),
    joules: of((cell) => cell.energy.joules),
    co2_grams: of((cell) => cell.energy.co2_grams),
  };
}

/** The mean over cells of the headline metric. The cells' resamples are of the same rows, so that their replicates can be averaged one by one. */
function estimateOf(cells: readonly CellResult[], headline: string): Estimate {
  const values = cells.map(({ metrics }) => metrics[headline]!.value ?? Number.NaN);
  const value = mean(values);
  const replicates = cells[0]!.replicates.map((_, b) => mean(cells.map((cell) => cell.replicates[b] ?? Number.NaN)));
  return estimate(Number.isFinite(value) ? value : null, replicates);
}

function pairTests(methods: readonly string[], cellsOf: (method: string) => readonly CellResult[], compare: Compare): readonly PairTest[] {
  const tests = methods.flatMap((first, i) =>
    methods.slice(i + 1).flatMap((second) => {
      const seeds = cellsOf(first).flatMap(({ seed }) => (cellsOf(second).some((cell) => cell.seed === seed) ? [seed] : []));
      if (seeds.length === 0) return [];
      const [a, b] = [first, second].map((method) => cellsOf(method).filter(({ seed }) => seeds.includes(seed)));
      return [{ first, second, seeds, ...compare(a!, b!) }];
    }),
  );
  const adjusted = holm(tests.map(({ p }) => p));
  return tests.map((test, i) => ({ ...test, adjusted: adjusted[i]! }));
}

/** Tests two methods by their cells of the same seeds. */
type Compare = (first: readonly CellResult[], second: readonly CellResult[]) => TestResult & Pick<PairTest, "difference">;

/** How cells are compared: by what the task counts for its headline metric, else row by row. */
function comparing(all: readonly CellResult[], task: Task, target: Target): Compare {
  const tally = task.tally?.(target);
  if (tally === undefined)
    return (first, second) => {
      const [a, b] = [meanOutcomes(first), meanOutcomes(second)];
      return { difference: mean(a) - mean(b), ...pairedTest(a, b, 0) };
    };
  const counts = new Map(all.map((cell) => [cell, tally.of(cell.answers!, cell.truth!)]));
  const countsOf = (cells: readonly CellResult[]): SeedCounts => cells.map((cell) => counts.get(cell)!);
  return (first, second) => {
    const [a, b] = [countsOf(first), countsOf(second)];
    return { difference: meanScore(a, tally.score) - meanScore(b, tally.score), ...exchangePermutation(a, b, tally.score, 0) };
  };
}

function meanOutcomes(cells: readonly CellResult[]): number[] {
  return cells[0]!.outcomes.map((_, row) => mean(cells.map(({ outcomes }) => outcomes[row]!)));
}

function verdicts(methods: readonly MethodSummary[], tests: readonly PairTest[], rows: number): readonly string[] {
  if (methods.length < 2) return ["One method only: there is nothing to compare it with."];
  if (tests.length === 0)
    return [`${rows} evaluation rows are too few for a test (${leastTestRows} are needed): the figures' order may be chance.`];
  return methods.flatMap(({ method }) => {
    const same = tests.filter(({ first, adjusted }) => first === method && adjusted >= alpha).map(({ second }) => second);
    if (same.length === 0) return [];
    return [
      `The data can't tell ${method} from ${listed(same)}: the differences on these ${rows} rows are no larger than chance makes them.`,
    ];
  });
}

/** Says so where the best method is not shown to be better than one answer for all rows. */
function constantAnswer(
  methods: readonly MethodSummary[],
  cells: readonly CellResult[],
  target: Target,
  headline: string,
): readonly string[] {
  const truth = cells[0]?.truth;
  const low = methods[0]?.score.low;
  if (target.kind !== "classes" || headline !== "accuracy" || truth == null || low == null) return [];
  const counts = target.labels.map((_, label) => truth.filter(([id]) => id === label).length);
  const most = Math.max(...counts);
  const share = most / truth.length;
  if (low > share) return [];
  return [
    `No method is shown to be better than always answering "${target.labels[counts.indexOf(most)]}" (accuracy ${figure(share)}): more rows, more epochs or another base model are needed before the choice matters.`,
  ];
}

/** Names in words: `a, b and c`. */
export function listed(names: readonly string[]): string {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

function curvesOf(cells: readonly CellResult[], headline: string): readonly CurvePoint[] {
  const groups = new Map<string, CellResult[]>();
  for (const cell of cells) {
    const key = JSON.stringify([cell.method, cell.size]);
    groups.set(key, [...(groups.get(key) ?? []), cell]);
  }
  return [...groups.values()]
    .map((group) => ({ method: group[0]!.method, size: group[0]!.size, seeds: group.length, ...estimateOf(group, headline) }))
    .sort((a, b) => a.method.localeCompare(b.method) || a.size - b.size);
}

function confusionOf(cell: CellResult, target: Target): ConfusionTable | null {
  if (target.kind !== "classes" || cell.answers === null || cell.truth === null) return null;
  const { labels } = target;
  const counts = labels.map(() => labels.map(() => 0));
  cell.truth.forEach((row, i) => {
    row.forEach((label, j) => {
      counts[label]![cell.answers![i]![j]!]! += 1;
    });
  });
  return { method: cell.method, seed: cell.seed, labels, counts };
}

function mistakesOf(cells: readonly CellResult[], target: Target, evalRows: RowTable): readonly Mistake[] {
  const [first] = cells;
  if (first === undefined || first.answers === null) return [];
  const nameOf = (ids: readonly number[]): string =>
    target.kind === "classes" ? ids.map((id) => target.labels[id]!).join(" ") : ids.map((value) => value.toFixed(2)).join(" ");
  const badness = first.outcomes.map((_, row) => mean(cells.map(({ outcomes }) => outcomes[row]!)));
  const perfect = target.kind === "classes" ? 1 : 0;
  return badness
    .map((value, row) => ({ value, row }))
    .filter(({ value }) => value < perfect)
    .sort((a, b) => a.value - b.value || a.row - b.row)
    .slice(0, shownMistakes)
    .map(({ row }) => ({
      where: evalRows.where(row),
      text: textOf(evalRows.rows[row]!),
      truth: nameOf(first.truth![row]!),
      answers: cells.map((cell) => ({
        method: cell.method,
        answer: nameOf(cell.answers![row]!),
        wrong: target.kind === "classes" && cell.outcomes[row] !== 1,
      })),
    }));
}

function textOf({ text, text_pair, tokens }: Readonly<Record<string, unknown>>): string {
  const whole = Array.isArray(tokens) ? tokens.join(" ") : `${text ?? ""}${text_pair === undefined ? "" : ` ‖ ${text_pair}`}`;
  return whole.length > 300 ? `${whole.slice(0, 299)}…` : whole;
}
