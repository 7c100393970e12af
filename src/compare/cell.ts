import { type RowTable, someRows } from "../data/rows.js";
import { holdOut } from "../data/split.js";
import { DataError } from "../errors.js";
import { memoryFiles } from "../io/memory-files.js";
import type { Method } from "../methods/method.js";
import type { TaskHead } from "../programs/adapted-model.js";
import { type Adapter, loadAdapter } from "../programs/adapter.js";
import { adapterFiles } from "../programs/adapter-files.js";
import type { BaseModel } from "../programs/base-model.js";
import { type PipelineInput, Switchboard } from "../programs/switchboard.js";
import { argmax } from "../tasks/logits.js";
import { slices, type Task } from "../tasks/task.js";
import type { TrainEvent } from "../train/events.js";
import type { TrainingOptions } from "../train/options.js";
import { type TrainResult, train } from "../train/trainer.js";
import { type GroupReport, groupReport } from "./fairness.js";
import { bootstrapMetrics, type Estimate, type Judged } from "./intervals.js";
import type { Cell } from "./plan.js";
import { quantile } from "./statistics.js";

/** Electrical energy of some work. */
export interface EnergyUse {
  readonly joules: number;
  /** False where it was estimated. */
  readonly measured: boolean;
  /** By which counters, or how it was estimated. */
  readonly how: string;
  readonly co2_grams: number;
}

/** What measures a machine; each call begins a measurement and returns the function that ends it. */
export interface Meters {
  /** Seconds, from any start. */
  now(): number;
  energy(): () => EnergyUse;
  /** The highest resident memory of the process meanwhile, in bytes; null where nothing tells. */
  memory(): () => number | null;
}

/** A method that takes part, by the name that the user gave. */
export interface Contestant {
  readonly name: string;
  readonly method: Method;
  readonly config: object;
}

/** What all cells share. */
export interface Bench {
  readonly model: BaseModel;
  readonly head: TaskHead;
  readonly rows: RowTable;
  readonly evalRows: RowTable;
  /** The column that parts the evaluation rows into groups, with each row's value. */
  readonly groups?: { readonly column: string; readonly values: readonly string[] } | undefined;
  readonly training: TrainingOptions;
  readonly resamples: number;
  readonly meters: Meters;
}

/** All that is kept of a finished cell. */
export interface CellResult extends Cell {
  readonly learning_rate: number;
  readonly steps: number;
  readonly trained_parameters: number;
  readonly total_parameters: number;
  /** All of the adapter's files together. */
  readonly adapter_bytes: number;
  /** Loading, encoding and all steps, without the evaluation. */
  readonly train_seconds: number;
  /** The median of the steps', the first two left out where there are more. */
  readonly examples_per_second: number;
  readonly peak_memory_bytes: number | null;
  /** Of one row at a time with the adapter in use, tokenising included. */
  readonly latency_seconds: { readonly p50: number; readonly p95: number; readonly calls: number };
  /** From files in memory to ready; the first call, which may build a session; and what a call takes more when another adapter of the same method answered before. */
  readonly switch_seconds: { readonly load: number; readonly first_call: number; readonly between: number };
  /** Of the training. */
  readonly energy: EnergyUse;
  readonly metrics: Readonly<Record<string, Estimate>>;
  /** The headline metric (or the loss) on each bootstrap resample of the evaluation rows. */
  readonly replicates: readonly (number | null)[];
  /** How well each evaluation row is predicted: see Task.outcome. */
  readonly outcomes: readonly number[];
  /** The answers for each evaluation row: class ids, or a number; none for tasks that foretell tokens. */
  readonly answers: readonly (readonly number[])[] | null;
  /** What would have been right, in the same form. */
  readonly truth: readonly (readonly number[])[] | null;
  readonly groups: GroupReport | null;
  /** The whole cell: training, evaluation and all measurements. */
  readonly seconds: number;
}

/** Rows of a training size, drawn by a seed, each label its share where rows have one label each. */
export function drawRows({ task, target }: TaskHead, table: RowTable, size: number, seed: number): RowTable {
  const n = table.rows.length;
  if (size >= n) return table;
  return someRows(table, holdOut(n, size / n, seed, labelsOf(task, target.kind === "classes", table)).held);
}

/** The rows' labels, for drawing by them; undefined where they have none or many. */
export function labelsOf({ onePerText }: Task, classes: boolean, table: RowTable): readonly string[] | undefined {
  return onePerText && classes ? table.rows.map((row) => String(row.label)) : undefined;
}

/** Trains one method on some rows, judged on others after the last step. `onStep` is told of each step; undefined when it was interrupted. */
export async function trainOnce(
  { model, head, training, meters }: Bench,
  { method, config }: Contestant,
  data: { readonly rows: RowTable; readonly evalRows: RowTable; readonly learning_rate: number; readonly seed: number },
  signal: AbortSignal,
  onEvent: (event: TrainEvent) => void,
): Promise<TrainResult | undefined> {
  const options = { ...training, learning_rate: data.learning_rate, seed: data.seed, eval_steps: Number.MAX_SAFE_INTEGER };
  const { rows, evalRows } = data;
  const loop = train({ model, task: head.task, head, method, config, rows, evalRows, options, signal, now: meters.now });
  for (;;) {
    const { value, done } = await loop.next();
    if (done === true) return value.finished ? value : undefined;
    onEvent(value);
    if (signal.aborted) {
      await loop.return(undefined as never);
      return undefined;
    }
  }
}

/** Trains and measures a cell. Returns what is kept of it and its adapter's files; undefined when it was interrupted. Throws as `train` does. */
export async function runCell(
  bench: Bench,
  contestant: Contestant,
  cell: Cell,
  learningRate: number,
  signal: AbortSignal,
  onEvent: (event: TrainEvent) => void,
): Promise<{ readonly result: CellResult; readonly files: Readonly<Record<string, Uint8Array>> } | undefined> {
  const { model, head, meters } = bench;
  const { task, target } = head;
  const began = meters.now();
  const rows = drawRows(head, bench.rows, cell.size, cell.seed);
  const memory = meters.memory();
  const energy = meters.energy();
  let used: EnergyUse | undefined;
  let start: (TrainEvent & { event: "start" }) | undefined;
  const speeds: number[] = [];
  let trainSeconds = 0;
  let trained: TrainResult | undefined;
  let peak: number | null = null;
  try {
    const data = { rows, evalRows: bench.evalRows, learning_rate: learningRate, seed: cell.seed };
    trained = await trainOnce(bench, contestant, data, signal, (event) => {
      if (event.event === "start") start = event;
      if (event.event === "step") {
        speeds.push(event.examples_per_second);
        trainSeconds = event.seconds;
        if (event.step === start!.steps) used = energy();
      }
      onEvent(event);
    });
  } finally {
    peak = memory();
  }
  if (trained === undefined) return undefined;
  const { examples, outputs } = trained.evaluation!;
  if (examples.length !== bench.evalRows.rows.length) {
    const cut = bench.evalRows.rows.length - examples.length;
    throw new DataError(
      `${bench.evalRows.origin}: of ${cut} rows all that was to be judged is cut off, so methods cannot be compared row by row`,
      {
        hint: "raise --max-length, or leave these rows out",
      },
    );
  }
  const judged: Judged = { task, target, examples, outputs };
  const record = { task: task.name, labels: target.kind === "classes" ? target.labels : null, ...cell, learning_rate: learningRate };
  const files = {
    ...(await adapterFiles(model, trained.adapter)),
    "training.json": new TextEncoder().encode(`${JSON.stringify(record, null, 2)}\n`),
  };
  const speed = await measureCalls(bench, trained.adapter, files);
  const { estimates, replicates } = bootstrapMetrics(judged, { resamples: bench.resamples });
  const steady = [...(speeds.length > 4 ? speeds.slice(2) : speeds)].sort((a, b) => a - b);
  const result: CellResult = {
    ...cell,
    learning_rate: learningRate,
    steps: trained.steps,
    trained_parameters: start!.trained_parameters,
    total_parameters: start!.total_parameters,
    adapter_bytes: Object.values(files).reduce((total, bytes) => total + bytes.length, 0),
    train_seconds: trainSeconds,
    examples_per_second: quantile(steady, 0.5),
    peak_memory_bytes: peak,
    ...speed,
    energy: used!,
    metrics: estimates,
    replicates: replicates[task.headline(target)]!.map((value) => (Number.isFinite(value) ? value : null)),
    outcomes: outputs.map((output, i) => task.outcome(output, examples[i]!, target)),
    answers: answersOf(judged),
    truth: target.kind === "tokens" ? null : examples.map(({ labels }) => labels ?? []),
    groups:
      bench.groups === undefined ? null : groupReport(judged, bench.groups.column, bench.groups.values, { resamples: bench.resamples }),
    seconds: meters.now() - began,
  };
  return { result, files };
}

/** Class ids, or the number, that the model gave for each row's places; null for tasks that foretell tokens. */
function answersOf({ task, target, outputs }: Judged): CellResult["answers"] {
  if (target.kind === "tokens") return null;
  const width = task.outputs(target);
  return outputs.map((output) => (target.kind === "number" ? [output[0]!] : slices(output, width).map(argmax)));
}

/** Calls that are timed at most, and the seconds after which no further ones are begun, once there are a few. */
const mostCalls = 40;
const enoughSeconds = 3;
const fewestCalls = 8;

/** Times calls of one row, and the switch between two adapters of this structure on one base. */
async function measureCalls(
  { model, evalRows, meters: { now } }: Bench,
  { head }: Adapter,
  files: Readonly<Record<string, Uint8Array>>,
): Promise<Pick<CellResult, "latency_seconds" | "switch_seconds">> {
  const board = new Switchboard(model);
  const inputs = evalRows.rows.slice(0, 20).map(inputOf);
  const timed = async (work: () => Promise<unknown>): Promise<number> => {
    const began = now();
    await work();
    return now() - began;
  };
  const calls = async (adapterOf: (call: number) => string): Promise<number[]> => {
    const times: number[] = [];
    const began = now();
    for (let i = 0; i < mostCalls && (i < fewestCalls || now() - began < enoughSeconds); i++)
      times.push(await timed(() => board.predict([inputs[i % inputs.length]!], { adapter: adapterOf(i) })));
    return times.sort((a, b) => a - b);
  };
  try {
    const add = async (name: string): Promise<void> => board.load(name, await loadAdapter(model, memoryFiles(name, files), head.task.name));
    const load = await timed(() => add("one"));
    const firstCall = await timed(() => board.predict([inputs[0]!], { adapter: "one" }));
    await add("two");
    for (const adapter of ["one", "two", "one"]) await board.predict([inputs[0]!], { adapter });
    const same = await calls(() => "one");
    const between = await calls((call) => (call % 2 === 0 ? "two" : "one"));
    return {
      latency_seconds: { p50: quantile(same, 0.5), p95: quantile(same, 0.95), calls: same.length },
      switch_seconds: { load, first_call: firstCall, between: quantile(between, 0.5) - quantile(same, 0.5) },
    };
  } finally {
    await board.dispose();
  }
}

/** A row as it is asked for, without its labels; a language model reads the prompt with its completion. */
function inputOf({ text, text_pair, tokens, prompt, completion, messages }: Readonly<Record<string, unknown>>): PipelineInput {
  if (Array.isArray(messages)) return { text: messages.map((message: { content?: unknown }) => String(message.content ?? "")).join("\n") };
  if (Array.isArray(tokens)) return { tokens: tokens.map(String) };
  const whole = text === undefined ? `${prompt ?? ""}${completion ?? ""}` : String(text);
  return { text: whole, ...(text_pair === undefined || text_pair === null ? {} : { text_pair: String(text_pair) }) };
}
