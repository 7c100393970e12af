import type { Tensor } from "../core/tensor.js";
import type { RowTable } from "../data/rows.js";
import { CheckpointError, ConfigError, NumericError } from "../errors.js";
import type { Files } from "../io/files.js";
import type { Method, PeftMethod } from "../methods/method.js";
import { newModules, outputGraph, type TaskHead, trainGraph, withBaseDtype } from "../programs/adapted-model.js";
import { type Adapter, headToTrain, loadHeldAdapter } from "../programs/adapter.js";
import { adapterFiles } from "../programs/adapter-files.js";
import type { BaseModel } from "../programs/base-model.js";
import { composeTrained } from "../programs/compose.js";
import { initialParams } from "../programs/initial-params.js";
import { packingOf } from "../programs/limits.js";
import { runExamples } from "../programs/outputs.js";
import {
  countParameters,
  loadProgram,
  type Params,
  type Program,
  paramsOf,
  startProgram,
  storesMatrices,
  trainingUse,
} from "../programs/program.js";
import type { Example, Metrics, Outputs, Task } from "../tasks/task.js";
import { type Best, type CheckpointStore, readState, type Score, type TrainState, writeState } from "./checkpoint.js";
import { type MicroBatch, planSteps, prepareData } from "./data.js";
import type { TrainEvent } from "./events.js";
import { AdamW, accumulate, clipGradNorm, type TrainedParam } from "./optimizer.js";
import type { TrainingOptions } from "./options.js";
import { learningRateAt, warmupSteps } from "./schedule.js";

/** What training needs. */
export interface TrainInput {
  readonly model: BaseModel;
  readonly task: Task;
  readonly method: Method;
  /** The method's config, defaults filled in. */
  readonly config: object;
  /** Adapters that stay frozen below the trained one, or that the method composes. */
  readonly held?: readonly NamedFiles[] | undefined;
  /** The program's own methods, for adapters that are held. */
  readonly methods?: readonly PeftMethod[] | undefined;
  readonly rows: RowTable;
  /** What is to be learnt; by default what the training rows show, which may be fewer labels than other rows have. */
  readonly head?: TaskHead | undefined;
  /** Rows to evaluate on; without them a tenth of the training rows is held out. */
  readonly evalRows?: RowTable | undefined;
  readonly options: TrainingOptions;
  readonly checkpoints?: CheckpointStore | undefined;
  /** Go on from the newest checkpoint. */
  readonly resume?: boolean | undefined;
  /** Stops after the step under way, with a checkpoint. */
  readonly signal?: AbortSignal | undefined;
  /** Further facts that a resumed run must share, such as the hash of the base's weights; asked for when a checkpoint is written or read. */
  readonly identity?: () => Promise<Readonly<Record<string, unknown>>>;
  /** Seconds, from any start. */
  readonly now: () => number;
  readonly peakMemory?: () => number | null;
}

/** An adapter's files and what it is called. */
export interface NamedFiles {
  readonly name: string;
  readonly files: Files;
}

/** What training gives. */
export interface TrainResult {
  readonly adapter: Adapter;
  /** False when it was interrupted. */
  readonly finished: boolean;
  readonly steps: number;
  readonly loss: number | null;
  readonly metrics: Metrics;
  /** What the metrics were computed from; undefined where that was not in this run, or there was nothing to evaluate on. */
  readonly evaluation: Evaluation | undefined;
  readonly seconds: number;
}

/** The evaluation rows and what the head gave for them after a step. */
export interface Evaluation {
  readonly step: number;
  readonly examples: readonly Example[];
  readonly outputs: Outputs;
}

/**
 * Trains an adapter. The loop prints nothing and writes no file itself: events come out, checkpoints go to the store.
 * Throws DataError, ConfigError, AttachError, WeightError, CheckpointError, or NumericError when a loss or gradient is not finite.
 */
export async function* train(input: TrainInput): AsyncGenerator<TrainEvent, TrainResult> {
  const { task, method, options, now } = input;
  const began = now();
  const head = input.head ?? headToTrain(input.model, task, input.rows);
  const model = withBaseDtype(input.model, head, options.base_dtype);
  const held = await Promise.all(
    (input.held ?? []).map(async ({ name, files }) => ({ name, adapter: await loadHeldAdapter(model, files, head, input.methods) })),
  );
  const { attachment, params: heldParams } = composeTrained(model, head, method, input.config, held);
  const graph = trainGraph(model, head, [attachment], options.dropout, options.recompute);
  const baseDtype = storesMatrices(graph) ? model.baseDtype : "f32";
  if (baseDtype !== model.baseDtype && options.base_dtype !== "auto") {
    throw new ConfigError(
      `base_dtype ${model.baseDtype} would store nothing: ${method.name} trains all weights of linear layers, in float32`,
      {
        hint: "leave base_dtype at f32, or choose a method that keeps the base frozen, such as lora",
      },
    );
  }
  if (!paramsOf(graph).some(({ leaf }) => leaf.trained)) {
    throw new ConfigError(
      `there is nothing to train: ${method.name} trains no more than the head, and for ${task.name} the base model's stays`,
      {
        hint: "choose another method",
      },
    );
  }
  // who recomputes wants little memory, and matrices laid out for speed take more
  const { program: loading, handedOver } = startProgram(model, graph, trainingUse(options.recompute));
  loading.catch(() => {}); // the error is thrown where the program is awaited
  await handedOver; // encoding the rows keeps this thread busy, and the runtime creates the session meanwhile
  const data = prepareData(model, head, [attachment], input.rows, input.evalRows, options);
  const packing = packingOf(model, [attachment]);
  const plan = planSteps(head, packing, data.examples, options);
  const peak = options.learning_rate ?? method.learningRate;
  const schedule = {
    type: options.lr_scheduler_type,
    learning_rate: peak,
    warmup_steps: warmupSteps(options.warmup_ratio, plan.total),
    total_steps: plan.total,
  };
  const { save_steps: _, ...fixed } = options;
  const identity = async (): Promise<Readonly<Record<string, unknown>>> => ({
    ...(await input.identity?.()),
    model: model.id,
    task: task.name,
    method: method.name,
    config: input.config,
    ...(held.length === 0 ? {} : { held: held.map(({ name, adapter }) => ({ name, ...adapter.attachment.config })) }),
    options: fixed,
    data: data.fingerprint,
  });

  const state = await savedState(input, identity);
  const params: Params = state?.params ?? (await initialParams(model, graph, options.seed, heldParams));
  const trained = paramsOf(graph).flatMap(({ leaf }) => (leaf.trained ? [{ ...leaf, values: params.get(leaf.path)!.data }] : []));
  const { adam_beta1, adam_beta2, adam_epsilon: eps, weight_decay } = options;
  const optimizer = new AdamW(trained, { betas: [adam_beta1, adam_beta2], eps, weight_decay });
  if (state !== undefined) optimizer.restore(state.optimizer);
  let { step, best, patience } = state ?? { step: 0, best: undefined as Best | undefined, patience: 0 };
  let score: Score = state?.score ?? { loss: null, metrics: {} };
  let last: Evaluation | undefined;
  let bestEvaluation: Evaluation | undefined;
  const trainer = await loading;
  let evaluator: Promise<Program> | undefined; // loaded when it is needed: the first step need not wait for it

  const seconds = (): number => (state?.seconds ?? 0) + now() - began;
  /** Whether so many steps are over since something was done last; null for once an epoch. */
  const isDue = (every: number | null): boolean => (every === null ? Number.isInteger(plan.epochAt(step)) : step % every === 0);
  const outOfPatience = (): boolean => options.early_stopping_patience !== null && patience >= options.early_stopping_patience;
  const result = (finished: boolean, values: Params, { loss, metrics }: Score, evaluation?: Evaluation): TrainResult => ({
    adapter: { head, attachment, params: values },
    finished,
    steps: step,
    loss,
    metrics,
    evaluation,
    seconds: seconds(),
  });
  const evaluate = async (): Promise<TrainEvent> => {
    evaluator ??= loadProgram(model, outputGraph(model, head, [attachment]));
    const outputs = await runExamples(await evaluator, params, data.evalExamples, head, packing);
    const { loss, metrics } = task.evaluate(outputs, data.evalExamples, head.target);
    if (!Number.isFinite(loss)) throw new NumericError(`the evaluation after step ${step}: the loss is ${loss}`, { hint: calmer });
    score = { loss, metrics };
    last = { step, examples: data.evalExamples, outputs };
    const value = metrics[task.headline(head.target)] ?? -loss;
    const better = best === undefined || value > best.score;
    patience = better ? 0 : patience + 1;
    if (better) bestEvaluation = last;
    if (better) best = { step, score: value, loss, metrics, params: options.early_stopping_patience === null ? undefined : copyOf(params) };
    return { event: "eval", step, loss, metrics, best: better, seconds: seconds() };
  };
  const save = async (store: CheckpointStore): Promise<string> => {
    const current: TrainState = { step, seconds: seconds(), params, optimizer: optimizer.state(), score, best, patience };
    return store.save(step, { ...(await adapterFiles(model, { head, attachment, params })), ...writeState(current, await identity()) });
  };

  try {
    yield {
      event: "start",
      model: model.id,
      task: task.name,
      method: method.name,
      train_rows: data.examples.length,
      eval_rows: data.evalExamples.length,
      eval_source: data.evalSource,
      truncated_rows: data.truncated,
      dropped_rows: data.dropped,
      labels: head.target.kind === "classes" ? head.target.labels : null,
      ...countParameters(graph),
      new_modules: newModules(model, head),
      learning_rate: peak,
      base_dtype: baseDtype,
      steps: plan.total,
      steps_per_epoch: plan.perEpoch,
      resumed_from: state?.step ?? null,
    };
    if (options.eval_on_start && state === undefined && data.evalExamples.length > 0) yield await evaluate();
    let stoppedEarly = step < plan.total && outOfPatience();
    let ended = now();
    let next = step < plan.total ? plan.prepare(step) : undefined;
    while (next !== undefined && !stoppedEarly) {
      const batches = next;
      const { loss, grads } = await lossAndGradients(trainer, params, trained, batches, [options.seed, step], () => {
        next = step + 1 < plan.total ? plan.prepare(step + 1) : undefined;
      });
      const norm = clipGradNorm(grads, options.max_grad_norm);
      if (!Number.isFinite(loss) || !Number.isFinite(norm)) throw notFinite(step + 1, loss, norm);
      const rate = learningRateAt(step, schedule);
      optimizer.step(grads, rate);
      step += 1;
      const took = Math.max(now() - ended, 1e-9);
      ended += took;
      yield {
        event: "step",
        step,
        epoch: plan.epochAt(step),
        loss,
        learning_rate: rate,
        grad_norm: norm,
        examples_per_second: batches.reduce((total, { texts }) => total + texts, 0) / took,
        tokens_per_second: batches.reduce((total, { tokens }) => total + tokens, 0) / took,
        seconds: seconds(),
      };
      const done = step === plan.total;
      if (data.evalExamples.length > 0 && (done || isDue(options.eval_steps))) {
        yield await evaluate();
        stoppedEarly = !done && outOfPatience();
      }
      const interrupted = input.signal?.aborted === true && !done && !stoppedEarly;
      const due = done || stoppedEarly || interrupted || isDue(options.save_steps);
      const checkpoint = input.checkpoints !== undefined && due ? await save(input.checkpoints) : null;
      if (checkpoint !== null) yield { event: "checkpoint", step, checkpoint };
      if (interrupted) {
        yield { event: "interrupted", step, checkpoint };
        return result(false, params, score);
      }
    }
    const kept = best?.params === undefined ? { step, params, ...score } : { ...best, params: best.params };
    yield {
      event: "end",
      step,
      restored_step: kept.step,
      stopped_early: stoppedEarly,
      loss: kept.loss,
      metrics: kept.metrics,
      adapter: null,
      seconds: seconds(),
      peak_rss_bytes: input.peakMemory?.() ?? null,
    };
    return result(
      true,
      kept.params,
      kept,
      [last, bestEvaluation].find((each) => each?.step === kept.step),
    );
  } finally {
    await Promise.allSettled([trainer, evaluator].map(async (program) => (await program)?.dispose()));
  }
}

/** Runs an optimiser step's batches and adds up their losses and gradients. `meanwhile` is called once, while the last batch runs. */
async function lossAndGradients(
  program: Program,
  params: Params,
  trained: readonly TrainedParam[],
  batches: readonly MicroBatch[],
  noise: readonly [seed: number, step: number],
  meanwhile: () => void,
): Promise<{ readonly loss: number; readonly grads: readonly Float32Array[] }> {
  let loss = 0;
  let grads: readonly Float32Array[] = [];
  for (const [i, { feeds }] of batches.entries()) {
    const running = program.run({ batch: feeds, params, noise: [...noise, i] });
    if (i === batches.length - 1) meanwhile();
    const results = await running;
    loss += (results.loss!.data as Float32Array)[0]!;
    const parts = trained.map(({ path }) => results[`grad:${path}`]!.data as Float32Array);
    if (i === 0) grads = parts;
    else accumulate(grads, parts);
  }
  return { loss, grads };
}

async function savedState(input: TrainInput, identity: () => Promise<Readonly<Record<string, unknown>>>): Promise<TrainState | undefined> {
  if (input.resume !== true) return undefined;
  const files = await input.checkpoints?.latest();
  if (files === undefined)
    throw new CheckpointError("there is no checkpoint to resume from", { hint: "train without --resume to start afresh" });
  return readState(files, await identity());
}

function copyOf(params: Params): Params {
  return new Map([...params].map(([path, tensor]): [string, Tensor<"float32">] => [path, { ...tensor, data: tensor.data.slice() }]));
}

const calmer = "try a lower learning rate, or a smaller max_grad_norm; the last checkpoint is untouched";

function notFinite(step: number, loss: number, norm: number): NumericError {
  return new NumericError(`step ${step}: the loss is ${loss}, the gradients' norm ${norm}`, { hint: calmer });
}
