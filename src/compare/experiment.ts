import { someRows } from "../data/rows.js";
import { holdOut } from "../data/split.js";
import { AttachError, ConfigError, ModelError, NumericError } from "../errors.js";
import { type Bench, type CellResult, type Contestant, drawRows, labelsOf, runCell, trainOnce } from "./cell.js";
import { type Cell, cellName, estimateSeconds, rounds, type Timing, workOf } from "./plan.js";

/**
 * Learning rates that the search tries, as multiples of the method's default: three for each method. The last follows the better of the first two,
 * since short trainings want higher rates than long ones, and a rate at the edge of what was tried says little of the method.
 */
const firstFactors = [1, 3] as const;
const lastFactor = { lower: 0.3, higher: 10 } as const;
/** Share of the search's rows that it is judged on. */
const searchHeldShare = 0.25;
/** With fewer rows than this there is no search: the method's default stands. */
export const leastSearchRows = 20;
/** Seconds of the budget that are left for the report, and the factor on estimates, which are no more than that. */
const reportSeconds = 10;
const caution = 1.1;

/** What the search for a method's learning rate found. */
export interface SearchResult {
  readonly method: string;
  readonly learning_rate: number;
  /** The loss on the held-out rows for each rate that was tried; null where it was not finite. */
  readonly tried: readonly { readonly learning_rate: number; readonly loss: number | null }[];
  readonly rows: number;
  readonly held_rows: number;
  readonly seconds: number;
}

/** A method that could not take part, and why. */
export interface Refusal {
  readonly method: string;
  readonly message: string;
}

/** What happens in a comparison, in the order in which it happens. Field names are those of `--json`. */
export type CompareEvent =
  | { readonly event: "search"; readonly reused: boolean; readonly result: SearchResult }
  | { readonly event: "step"; readonly what: string; readonly step: number; readonly steps: number }
  | { readonly event: "cell"; readonly reused: boolean; readonly done: number; readonly cells: number; readonly result: CellResult }
  | ({ readonly event: "refused" } & Refusal)
  | { readonly event: "dropped"; readonly cells: readonly Cell[]; readonly reason: string };

/** Where finished searches and cells are kept; each is written whole or not at all. */
export interface ResultStore {
  search(method: string): Promise<SearchResult | undefined>;
  keepSearch(result: SearchResult): Promise<void>;
  cell(name: string): Promise<CellResult | undefined>;
  keepCell(name: string, result: CellResult, files: Readonly<Record<string, Uint8Array>>): Promise<void>;
}

/** What a comparison needs. */
export interface ExperimentInput extends Bench {
  readonly contestants: readonly Contestant[];
  readonly seeds: readonly number[];
  readonly sizes: readonly number[];
  /** Rows that the search for learning rates may use. */
  readonly searchRows: number;
  /** Seconds that the call may take from now; null for no limit. */
  readonly budget: number | null;
  readonly store: ResultStore;
  readonly signal: AbortSignal;
}

/** All that a comparison found. */
export interface ExperimentResult {
  readonly searches: readonly SearchResult[];
  readonly cells: readonly CellResult[];
  readonly refused: readonly Refusal[];
  /** Cells that the budget had no room for. */
  readonly dropped: readonly Cell[];
  readonly interrupted: boolean;
}

/**
 * Trains each method with each seed on each training size and measures all of them. What the store has is not done again. A method that the
 * model cannot take is refused and the rest goes on.
 */
export async function* experiment(input: ExperimentInput): AsyncGenerator<CompareEvent, ExperimentResult> {
  const { store, meters, budget } = input;
  const began = meters.now();
  const left = (): number => (budget === null ? Number.POSITIVE_INFINITY : budget - reportSeconds - (meters.now() - began));
  const deadline = new AbortController();
  const timer = budget === null ? undefined : setTimeout(() => deadline.abort(), Math.max(0, 1000 * left()));
  const signal = AbortSignal.any([input.signal, deadline.signal]);
  const searches: SearchResult[] = [];
  const cells: CellResult[] = [];
  const refused: Refusal[] = [];
  const dropped: Cell[] = [];
  const timings: Timing[] = [];
  const passesOf = (size: number): number => {
    const { epochs, min_steps, max_steps, batch_size, gradient_accumulation_steps } = input.training;
    const rows = (steps: number): number => steps * Math.min(size, batch_size * gradient_accumulation_steps);
    return max_steps === null ? Math.max(epochs * size, rows(min_steps ?? 0)) : rows(max_steps);
  };
  const workOfCell = ({ size }: Cell): number => workOf(passesOf(size), input.evalRows.rows.length);
  const all = rounds(
    input.contestants.map(({ name }) => name),
    input.seeds,
    input.sizes,
  );
  const named = new Map(input.contestants.map((each) => [each.name, each]));
  let done = 0;
  const rates = new Map<string, number>();
  const isRefused = (method: string): boolean => refused.some((each) => each.method === method);
  try {
    for (const [round, planned] of all.entries()) {
      const stored = new Map<string, CellResult>();
      for (const cell of planned) {
        const result = await store.cell(cellName(cell));
        if (result !== undefined) stored.set(cell.method, result);
      }
      const open = planned.filter(({ method }) => !stored.has(method) && !isRefused(method));
      const needed = open.reduce((sum, cell) => sum + caution * (estimateSeconds(cell.method, workOfCell(cell), timings) ?? 0), 0);
      const skip = round > 0 && needed > left();
      for (const cell of planned) {
        const known = stored.get(cell.method);
        const name = cellName(cell);
        if (known !== undefined) {
          done++;
          cells.push(known);
          timings.push({ method: cell.method, work: workOfCell(cell), seconds: known.seconds });
          yield { event: "cell", reused: true, done, cells: all.flat().length, result: known };
          continue;
        }
        if (isRefused(cell.method) || input.signal.aborted) continue;
        const estimated = caution * (estimateSeconds(cell.method, workOfCell(cell), timings) ?? 0);
        if (skip || estimated > left() || signal.aborted) {
          dropped.push(cell);
          continue;
        }
        const contestant = named.get(cell.method)!;
        try {
          if (!rates.has(cell.method)) {
            const search = yield* searchOf(input, contestant, signal);
            if (search !== undefined) {
              searches.push(search);
              rates.set(cell.method, search.learning_rate);
              const passes = search.tried.length * passesOf(search.rows);
              if (passes > 0)
                timings.push({
                  method: cell.method,
                  work: workOf(passes, search.tried.length * search.held_rows),
                  seconds: search.seconds,
                });
            }
          }
          const rate = rates.get(cell.method);
          const ran =
            rate === undefined ? undefined : yield* withSteps(name, (onStep) => runCell(input, contestant, cell, rate, signal, onStep));
          if (ran === undefined) {
            if (!input.signal.aborted) dropped.push(cell);
            continue;
          }
          await store.keepCell(name, ran.result, ran.files);
          done++;
          cells.push(ran.result);
          timings.push({ method: cell.method, work: workOfCell(cell), seconds: ran.result.seconds });
          yield { event: "cell", reused: false, done, cells: all.flat().length, result: ran.result };
        } catch (error) {
          if (
            !(error instanceof AttachError || error instanceof ConfigError || error instanceof ModelError || error instanceof NumericError)
          )
            throw error;
          const refusal = { method: cell.method, message: error.message };
          refused.push(refusal);
          yield { event: "refused", ...refusal };
        }
      }
    }
    for (const { name } of input.contestants) {
      const known = searches.some(({ method }) => method === name) ? undefined : await store.search(name); // of cells that were done before
      if (known !== undefined) searches.push(known);
    }
    if (dropped.length > 0) yield { event: "dropped", cells: dropped, reason: `the budget of ${budget} s has no room for them` };
    const place = ({ method }: SearchResult): number => input.contestants.findIndex(({ name }) => name === method);
    searches.sort((a, b) => place(a) - place(b));
    return { searches, cells, refused, dropped, interrupted: input.signal.aborted };
  } finally {
    clearTimeout(timer);
  }
}

/** The learning rate of a method: from the store, or searched for. Undefined when it was interrupted. */
async function* searchOf(
  input: ExperimentInput,
  contestant: Contestant,
  signal: AbortSignal,
): AsyncGenerator<CompareEvent, SearchResult | undefined> {
  const known = await input.store.search(contestant.name);
  if (known !== undefined) {
    yield { event: "search", reused: true, result: known };
    return known;
  }
  const began = input.meters.now();
  const { head, meters } = input;
  const own = contestant.method.learningRate;
  const rows = drawRows(head, input.rows, Math.min(input.searchRows, input.rows.rows.length), 0);
  const enough = rows.rows.length >= leastSearchRows;
  const split = enough
    ? holdOut(rows.rows.length, searchHeldShare, 0, labelsOf(head.task, head.target.kind === "classes", rows))
    : { train: [], held: [] };
  const tried: { learning_rate: number; loss: number | null }[] = [];
  const best = (): SearchResult["tried"][number] | undefined =>
    tried
      .filter(({ loss }) => loss !== null)
      .reduce<(typeof tried)[number] | undefined>((a, b) => (a === undefined || b.loss! < a.loss! ? b : a), undefined);
  for (let trial = 0; enough && trial < 3; trial++) {
    const factor = firstFactors[trial] ?? (best() !== undefined && best() === tried[1] ? lastFactor.higher : lastFactor.lower);
    const learning_rate = Number((own * factor).toPrecision(2));
    const data = { rows: someRows(rows, split.train), evalRows: someRows(rows, split.held), learning_rate, seed: 0 };
    try {
      const result = yield* withSteps(`${contestant.name}, learning rate ${learning_rate}`, (onStep) =>
        trainOnce(input, contestant, data, signal, onStep),
      );
      if (result === undefined) return undefined;
      tried.push({ learning_rate, loss: result.loss });
    } catch (error) {
      if (!(error instanceof NumericError)) throw error;
      tried.push({ learning_rate, loss: null });
    }
  }
  const result: SearchResult = {
    method: contestant.name,
    learning_rate: best()?.learning_rate ?? own,
    tried,
    rows: split.train.length,
    held_rows: split.held.length,
    seconds: meters.now() - began,
  };
  await input.store.keepSearch(result);
  yield { event: "search", reused: false, result };
  return result;
}

/** Runs work that tells of its steps through a callback, and yields these as they come. */
async function* withSteps<T>(
  what: string,
  work: (onStep: (event: { readonly event: string; readonly step?: number; readonly steps?: number }) => void) => Promise<T>,
): AsyncGenerator<CompareEvent, T> {
  const waiting: CompareEvent[] = [];
  let wake = (): void => {};
  let steps = 0;
  const running = work((event) => {
    if (event.event === "start") steps = event.steps ?? 0;
    if (event.event === "step") waiting.push({ event: "step", what, step: event.step ?? 0, steps });
    wake();
  });
  let ended = false;
  const end = running.then(
    () => {
      ended = true;
      wake();
    },
    () => {
      ended = true;
      wake();
    },
  );
  while (!ended) {
    await new Promise<void>((resolve) => {
      wake = resolve;
      if (ended || waiting.length > 0) resolve();
    });
    yield* waiting.splice(0);
  }
  await end;
  yield* waiting.splice(0);
  return running;
}
