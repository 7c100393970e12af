import * as z from "zod";
import { parseOptions } from "../core/options.js";
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
import { trainingOptions } from "../train/options.js";
import { readSettings } from "./flags.js";
import type { Output } from "./output.js";
import { printProgress } from "./progress.js";
import { verb } from "./verb.js";
import { bytes, count, percent, table } from "./words.js";

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
    batch_size: trainingOptions.shape.batch_size,
    max_length: trainingOptions.shape.max_length,
  },
  interruption: "tidy",
  async run(output, { method: methodName, set, task, labels, batch_size, max_length }, [name], signal) {
    const options = { env: process.env, onProgress: printProgress(output), signal };
    const { kind, files } = await resolveEither(name!, options);
    if (kind === "adapter") {
      const summary = await inspectAdapter(files);
      output.emit(summary);
      showAdapter(output, summary);
      return 0;
    }
    const model = await openModel(name!, options);
    const summary = await inspectModel(model);
    if (methodName === null) {
      output.emit(summary);
      showModel(output, summary, model.source);
      return 0;
    }
    const { method, preset } = methodChoice(methodName);
    const config = parseOptions(`${method.name} option`, method.config, { ...preset, ...readSettings(set, method.config.shape) });
    const attached = inspectMethod(model, { method, config, task: task ?? undefined, labels, batch_size, max_length });
    output.emit({ ...summary, method: attached });
    showModel(output, summary, model.source);
    showMethod(output, attached);
    return 0;
  },
});

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
  say(paint.bold(`memory for training, estimated (batches of ${memory.batch_size} texts of ${memory.max_length} tokens each)`));
  const parts = [
    ["  process", bytes(memory.process_bytes)],
    ["  frozen weights", bytes(memory.weights_bytes)],
    ["  trained, with optimiser", bytes(memory.trained_bytes)],
    ["  activations", bytes(memory.activations_bytes)],
    [paint.bold("  in all, about"), paint.bold(bytes(memory.total_bytes))],
  ];
  for (const row of table(parts)) say(row);
  say(paint.dim("  Shorter texts need less: activations grow with --batch-size and --max-length."));
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
