import * as z from "zod";
import { parseOptions } from "../core/options.js";
import { UsageError } from "../errors.js";
import { modelPlaces } from "../io/catalogue.js";
import { methodChoice } from "../methods/index.js";
import { openModel, resolveEither } from "../node/open-model.js";
import {
  type AdapterSummary,
  inspectAdapter,
  inspectMethod,
  inspectModel,
  type MethodSummary,
  type ModelSummary,
} from "../programs/inspect.js";
import type { TrainingPlan } from "../programs/training-plan.js";
import { nodeRuntime } from "../runtime/node.js";
import { trainingOptions } from "../train/options.js";
import { predictStepTime, type StepTime } from "../train/step-time.js";
import { readSettings } from "./flags.js";
import { modelFlags } from "./model-flags.js";
import type { Output } from "./output.js";
import { printProgress } from "./progress.js";
import { verb } from "./verb.js";
import { bytes, count, percent, table } from "./words.js";

/** The training options that change what a step takes. */
const estimated = trainingOptions.pick({
  batch_size: true,
  max_length: true,
  max_tokens_per_batch: true,
  dropout: true,
  recompute: true,
  base_dtype: true,
});

/** `peft inspect`: what a model's or an adapter's files say, and what a method would do to a model. */
export const inspectVerb = verb({
  name: "inspect",
  summary: "show a model's layers and parameters, what a method would train, or an adapter's config and tensors",
  examples: [
    "peft inspect minilm",
    "peft inspect minilm --method lora --set r=16 --set target_modules=all-linear",
    "peft inspect my-adapter",
  ],
  words: [["<model-or-adapter>", modelPlaces]],
  flags: {
    method: z.string().nullable().default(null).describe("show what this method would attach to, train, and need in memory"),
    set: z.record(z.string(), z.unknown()).default({}).describe("fields of the method's config: r=16, target_modules=query,value"),
    task: z.string().nullable().default(null).describe("the task that the method would learn; the model's first by default"),
    labels: z.number().int().positive().default(2).describe("labels of a head that starts fresh"),
    ...estimated.shape,
    calibrate: z
      .boolean()
      .default(false)
      .describe("with --method: time this machine for a few seconds and predict how long a training step takes"),
    threads: modelFlags.threads.describe("threads that --calibrate may use; all cores by default"),
  },
  interruption: "tidy",
  async run(output, { method: methodName, set, task, labels, calibrate, threads, ...options }, [name], signal) {
    const place = { env: process.env, onProgress: printProgress(output), signal };
    if (calibrate && methodName === null) throw new UsageError("--calibrate times a training step: say of which method, with --method");
    if (threads !== null && !calibrate) throw new UsageError("--threads is for what --calibrate times");
    const { kind, files } = await resolveEither(name!, place);
    if (kind === "adapter") {
      const summary = await inspectAdapter(files);
      output.emit(summary);
      showAdapter(output, summary);
      return 0;
    }
    const model = await openModel(name!, place);
    const summary = await inspectModel(model);
    if (methodName === null) {
      output.emit(summary);
      showModel(output, summary, model.source);
      return 0;
    }
    const { method, preset } = methodChoice(methodName);
    const config = parseOptions(`${method.name} option`, method.config, { ...preset, ...readSettings(set, method.config.shape) });
    const { summary: attached, plan } = inspectMethod(model, { method, config, task: task ?? undefined, labels, options });
    const step = calibrate ? await timed(plan, threads) : undefined;
    output.emit({ ...summary, method: { ...attached, ...(step === undefined ? {} : { step }) } });
    showModel(output, summary, model.source);
    showMethod(output, attached);
    if (step !== undefined) showStep(output, attached, step);
    return 0;
  },
});

/** The step's time on a runtime that lives as long as that takes. */
async function timed(plan: TrainingPlan, threads: number | null): Promise<StepTime> {
  const runtime = nodeRuntime(threads === null ? {} : { threads });
  try {
    return await predictStepTime(runtime, plan);
  } finally {
    await runtime.close();
  }
}

function showModel({ say, paint }: Output, model: ModelSummary, source: string): void {
  const line = (name: string, text: string): void => say(`  ${name.padEnd(11)} ${text}`);
  say(paint.bold(source));
  line("type", `${model.model_type}, ${model.layers} layers, hidden size ${model.hidden_size}, ${model.heads} heads`);
  line("parameters", count(model.parameters));
  const dtypes = Object.entries(model.weights.dtypes).map(([dtype, { tensors }]) => `${tensors} ${dtype}`);
  line("weights", `${model.weights.tensors} tensors (${dtypes.join(", ")}), ${bytes(model.weights.bytes)}`);
  line("tokenizer", `${count(model.tokenizer.vocab_size)} tokens: ${Object.values(model.tokenizer.special_tokens).join(" ")}`);
  line("max length", `${model.max_length} tokens`);
  for (const { task, head, labels, new_modules: fresh } of model.tasks) {
    const what = head === "fresh" ? "head starts fresh" : `trained head${labels === null ? "" : `: ${labels.join(", ")}`}`;
    line("task", `${task}, ${what}${fresh.length > 0 ? ` (as do ${fresh.join(", ")})` : ""}`);
  }
  say(paint.bold("linear layers"));
  const rows = model.linear_layers.map(({ role, count: n, path, in_features: from, out_features: to }) => [
    `  ${role}`,
    `${n}×`,
    `${from}→${to}`,
    path,
  ]);
  for (const row of table(rows)) say(row);
}

function showMethod({ say, paint }: Output, { memory, ...method }: MethodSummary): void {
  say(paint.bold(`${method.method} for ${method.task} would attach to`));
  const rows = method.attached.map(({ role, count: n, path, parameters }) => [
    `  ${role}`,
    `${n}×`,
    path,
    paint.dim(`${count(parameters)} parameters`),
  ]);
  for (const row of table(rows)) say(row);
  say(`  trained in full: ${method.saved_modules.join(", ") || "nothing"}`);
  say(
    `  ${count(method.trained_parameters)} of ${count(method.total_parameters)} parameters trained (${percent(method.trained_parameters / method.total_parameters)})`,
  );
  say(paint.bold(`peak memory of training, estimated (${batchOf(memory)}, base dtype ${method.base_dtype})`));
  const parts = [
    ["  process", bytes(memory.process_bytes)],
    ["  frozen weights", bytes(memory.weights_bytes)],
    ["  laid out for speed", bytes(memory.laid_out_bytes)],
    ["  left from reading them", bytes(memory.reading_bytes)],
    ["  trained, with optimiser", bytes(memory.trained_bytes)],
    ["  a step's values", bytes(memory.activations_bytes)],
    ["  an evaluation's values", bytes(memory.evaluation_bytes)],
    [paint.bold("  in all, about"), paint.bold(bytes(memory.total_bytes))],
  ];
  for (const row of table(parts)) say(row);
  say(paint.dim("  Shorter texts need less. --batch-size, --max-length, --max-tokens-per-batch, --base-dtype and --recompute change it."));
}

/** `batches of 8 texts of 128 tokens each`. */
function batchOf({ batch_size, max_length }: MethodSummary["memory"]): string {
  return `batches of ${batch_size} texts of ${max_length} tokens each`;
}

function showStep({ say, paint }: Output, { memory }: MethodSummary, step: StepTime): void {
  say(paint.bold(`time of a training step, predicted from this machine's speed just now (${batchOf(memory)})`));
  const seconds = (value: number): string => `${value.toFixed(value < 10 ? 3 : 1)} s`;
  const rate = (amount: number, time: number): string => (amount / time / 1e9).toFixed(amount / time < 1e10 ? 1 : 0);
  const { products_seconds: products, product_operations: operations, other_seconds: other, moved_bytes: moved } = step;
  const parts = [
    [
      "  matrix products",
      seconds(products),
      paint.dim(`${(operations / 1e9).toFixed(1)} billion operations at ${rate(operations, products)} a nanosecond`),
    ],
    ["  all else", seconds(other), paint.dim(`${bytes(moved)} at ${rate(moved, other)} bytes a nanosecond`)],
    ...(step.noise_seconds > 0 ? [["  dropout's noise", seconds(step.noise_seconds), ""]] : []),
    ["  optimiser", seconds(step.optimizer_seconds), ""],
    [
      paint.bold("  in all, about"),
      paint.bold(seconds(step.step_seconds)),
      paint.dim(`${(memory.batch_size / step.step_seconds).toFixed(1)} texts a second`),
    ],
  ];
  for (const row of table(parts)) say(row);
}

function showAdapter({ say, paint }: Output, adapter: AdapterSummary): void {
  const line = (name: string, text: string): void => say(`  ${name.padEnd(11)} ${text}`);
  say(paint.bold(`adapter ${adapter.adapter}`));
  line("method", adapter.method);
  line("task", adapter.task ?? "not named");
  line("base model", adapter.base_model ?? "not named");
  line("parameters", `${count(adapter.parameters)} in ${Object.keys(adapter.tensors).length} tensors`);
  if (adapter.labels !== null) line("labels", adapter.labels.join(", "));
  const metrics = Object.entries(adapter.metrics ?? {}).map(
    ([name, value]) => `${name} ${typeof value === "number" ? value.toFixed(4) : String(value)}`,
  );
  if (metrics.length > 0) line("metrics", metrics.join(", "));
  say(paint.bold("config"));
  for (const row of table(Object.entries(adapter.config).map(([name, value]) => [`  ${name}`, JSON.stringify(value)]))) say(row);
  say(paint.bold("tensors"));
  for (const row of table(Object.entries(adapter.tensors).map(([name, { dtype, shape }]) => [`  ${name}`, dtype, `[${shape.join(", ")}]`])))
    say(row);
}
