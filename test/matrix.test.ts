import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { topological } from "../src/core/graph.js";
import { fillUniform, keyOf } from "../src/core/random.js";
import { f32, type Tensor } from "../src/core/tensor.js";
import { packTexts } from "../src/data/collate.js";
import { memoryFiles } from "../src/io/memory-files.js";
import { methods } from "../src/methods/index.js";
import type { Method } from "../src/methods/method.js";
import { families } from "../src/models/index.js";
import { attach, forwardGraph, initialParams, type TaskHead, trainGraph } from "../src/programs/adapted-model.js";
import { type Adapter, adapterFiles, loadAdapter } from "../src/programs/adapter.js";
import type { BaseModel } from "../src/programs/base-model.js";
import { predictor } from "../src/programs/pipeline.js";
import { loadProgram, type Params, type ProgramInputs, paramsOf } from "../src/programs/program.js";
import { nodeRuntime } from "../src/runtime/node.js";
import type { Runtime } from "../src/runtime/session.js";
import type { Example } from "../src/tasks/task.js";
import { textClassification } from "../src/tasks/text-classification.js";
import type { TrainingOptions } from "../src/train/options.js";
import { type TrainResult, train } from "../src/train/trainer.js";
import { collect, openTinyModel, type TinyFamily, tableOf, tinyFamilies, tinyOptions, tinyRows } from "./tiny-model.fixture.js";

/** Configs under which a method is tried: the default, one that uses as much of it as goes, and the fields that are its own dropout. */
interface Settings {
  readonly configs: readonly object[];
  readonly dropout: object;
}

/** A new method adds an entry. */
const settings: Readonly<Record<string, Settings>> = {
  lora: {
    configs: [{}, { target_modules: "all-linear", bias: "all", use_rslora: true, rank_pattern: { query: 3 }, modules_to_save: ["pooler"] }],
    dropout: { lora_dropout: 0.3 },
  },
};

it("covers all methods and model families", () => {
  expect(Object.keys(settings).sort()).toEqual(methods.map(({ name }) => name).sort());
  expect(Object.keys(tinyFamilies).sort()).toEqual(families.map(({ model_types }) => model_types[0]).sort());
});

const cells = methods.flatMap((method) =>
  (Object.keys(tinyFamilies) as TinyFamily[]).map((family) => ({ method, family, name: method.name })),
);
const rows = tableOf(tinyRows(16));
const head: TaskHead = { task: textClassification, target: textClassification.target(rows) };

describe.each(cells)("$name × $family", ({ method, family }) => {
  const { configs, dropout } = settings[method.name]!;
  let runtime: Runtime;
  let model: BaseModel;
  let examples: readonly Example[];
  beforeAll(async () => {
    runtime = nodeRuntime({ threads: 1 });
    model = await openTinyModel(runtime, { family });
    examples = rows.rows.map((_, i) => textClassification.encode(rows, i, head.target, model.tokenizer, 32));
  });
  afterAll(() => runtime.close());

  const run = (config: object, options: Partial<TrainingOptions> = {}) => trainOn(model, method, config, options);

  describe.each(configs)("%j", (fields) => {
    const config = method.config.parse(fields);

    it("attaches somewhere, and trains no more than it says", () => {
      const attachment = attach(model, head, method, config, "user");
      const params = paramsOf(forwardGraph(model, head, [attachment]));
      const own = params.filter(({ leaf }) => leaf.trained && !leaf.path.startsWith("classifier."));
      expect(own.length).toBeGreaterThan(0);
      const graph = trainGraph(model, head, [attachment], "off");
      const grads = Object.keys(graph).filter((name) => name.startsWith("grad:"));
      expect(grads.sort()).toEqual(params.flatMap(({ leaf }) => (leaf.trained ? [`grad:${leaf.path}`] : [])).sort());
    });

    it("starts as the base model", async () => {
      const attachment = attach(model, head, method, config, "user");
      const params = await initialParams(model, forwardGraph(model, head, [attachment]), 5);
      const start = await logitsOf(model, { head, attachment, params }, examples);
      const program = await loadProgram(model, forwardGraph(model, head, []));
      const packed = packTexts(examples);
      const batch = { ...packed.feeds, ...textClassification.feeds(packed, examples, head.target) };
      const { logits } = await program.run({ batch, params });
      expect(farthest(start, logits!.data as Float32Array)).toBeLessThan(1e-5);
    });

    it("has the right gradient, by central differences of the program's loss", async () => {
      await gradcheck(model, method, config, examples);
    });

    it("learns: the loss falls over 30 steps", async () => {
      const { losses, result } = await run(config, { max_steps: 30, batch_size: 16, learning_rate: 2e-2 });
      expect(losses[0]).toBeGreaterThan(0.8);
      expect(losses.at(-1)).toBeLessThan(0.4 * losses[0]!);
      expect(result.finished).toBe(true);
    });

    it("is the same after saving and loading", async () => {
      const { result } = await run(config, { max_steps: 3 });
      const first = adapterFiles(model, result.adapter);
      const labels = { labels: (head.target as { labels: readonly string[] }).labels };
      const files = { ...first, "training.json": new TextEncoder().encode(JSON.stringify(labels)) };
      const loaded = await loadAdapter(model, memoryFiles("adapter", files));
      expect(loaded.head).toEqual(head);
      const second = adapterFiles(model, loaded);
      for (const name of Object.keys(first)) expect(Buffer.compare(second[name]!, first[name]!), name).toBe(0);
      expect(await logitsOf(model, loaded, examples)).toEqual(await logitsOf(model, result.adapter, examples));
    });
  });

  it("gives the same losses for the same seed, others for another", async () => {
    const config = method.config.parse({});
    const [first, again, other] = [await run(config, { seed: 1 }), await run(config, { seed: 1 }), await run(config, { seed: 2 })];
    expect(again.losses).toEqual(first.losses);
    expect(again.result.adapter.params).toEqual(first.result.adapter.params);
    expect(other.losses).not.toEqual(first.losses);
    const graph = forwardGraph(model, head, [attach(model, head, method, config, "user")]);
    expect(await initialParams(model, graph, 2)).not.toEqual(await initialParams(model, graph, 1));
  });

  it("draws dropout from the seed, and has none in evaluation", async () => {
    const plain = await run(method.config.parse({}));
    for (const [config, options] of [
      [method.config.parse(dropout), {}],
      [method.config.parse({}), { dropout: "model" }],
      [method.config.parse({}), { dropout: 0.2 }],
    ] as const) {
      const first = await run(config, { ...options, eval_on_start: true });
      expect(first.losses).not.toEqual(plain.losses);
      expect((await run(config, { ...options, eval_on_start: true })).losses).toEqual(first.losses);
      expect((await run(config, { ...options, seed: 1 })).losses).not.toEqual(first.losses);
      const { adapter, loss } = first.result;
      const values = topological(Object.values(forwardGraph(model, head, [adapter.attachment])));
      expect(values.some(({ source }) => source.kind === "mask")).toBe(false);
      const logits = await logitsOf(model, adapter, examples);
      expect(textClassification.evaluate({ logits, width: 3 }, examples, head.target).loss).toBeCloseTo(loss!, 5);
    }
  });
});

/** Trains on the rows, evaluates on the same, and gives the losses of all steps. */
async function trainOn(
  model: BaseModel,
  method: Method,
  config: object,
  options: Partial<TrainingOptions>,
): Promise<{ readonly losses: readonly number[]; readonly result: TrainResult }> {
  const loop = train({
    model,
    task: textClassification,
    method,
    config,
    rows,
    evalRows: rows,
    options: tinyOptions({ max_steps: 4, warmup_ratio: 0, ...options }),
    now: () => 0,
  });
  const { events, result } = await collect(loop);
  return { losses: events.flatMap((event) => (event.event === "step" ? [event.loss] : [])), result };
}

async function logitsOf(model: BaseModel, adapter: Adapter, examples: readonly Example[]): Promise<Float32Array> {
  const ready = await predictor(model, adapter);
  const { logits } = await ready.run(examples);
  await ready.dispose();
  return logits;
}

/**
 * Moves all trained parameters off their start, then compares the program's gradients with central differences of its loss: along one random
 * direction of all, and along one for each parameter alone. Dropout is on, with the same masks in every run.
 */
async function gradcheck(model: BaseModel, method: Method, config: object, examples: readonly Example[]): Promise<void> {
  const attachment = attach(model, head, method, config, "user");
  const graph = trainGraph(model, head, [attachment], 0.1);
  const program = await loadProgram(model, graph);
  const trained = paramsOf(graph).flatMap(({ leaf }) => (leaf.trained ? [leaf.path] : []));
  const noise = (shape: readonly number[], size: number, ...name: string[]): Float32Array => {
    const data = new Float32Array(size);
    fillUniform(data, keyOf(11, ...name, shape.join()), -1, 1);
    return data;
  };
  const params = new Map(
    [...(await initialParams(model, graph, 0))].map(([path, tensor]) => {
      const off = trained.includes(path) ? 0.1 : 0;
      return [path, moved(tensor, noise(tensor.shape, tensor.data.length, "start", path), off)] as const;
    }),
  );
  const packed = packTexts(examples);
  const batch = { ...packed.feeds, ...textClassification.feeds(packed, examples, head.target), lossScale: f32([1], []) };
  const runWith = (values: Params): ReturnType<typeof program.run> =>
    program.run({ batch, params: values, noise: [3, 1, 4] } satisfies ProgramInputs);
  const directions = new Map(trained.map((path) => [path, noise(params.get(path)!.shape, params.get(path)!.data.length, "way", path)]));
  const at = async (step: number, paths: readonly string[]): Promise<number> => {
    const values = new Map(params);
    for (const path of paths) values.set(path, moved(params.get(path)!, directions.get(path)!, step));
    return (await runWith(values)).loss!.data[0] as number;
  };
  const results = await runWith(params);
  const slopes = new Map(trained.map((path) => [path, dot(results[`grad:${path}`]!.data as Float32Array, directions.get(path)!)]));
  const compare = async (paths: readonly string[], step: number): Promise<void> => {
    const numeric = ((await at(step, paths)) - (await at(-step, paths))) / (2 * step);
    const analytic = paths.reduce((sum, path) => sum + slopes.get(path)!, 0);
    const scale = Math.max(Math.abs(numeric), 0.2); // of a sum over 16 rows: smaller slopes drown in float32's rounding
    expect(Math.abs(analytic - numeric) / scale, `${paths.join(" ")}: analytic ${analytic}, numeric ${numeric}`).toBeLessThan(5e-3);
  };
  await compare(trained, 1e-3);
  for (const path of trained) await compare([path], 3e-3);
  expect([...slopes.values()].filter((slope) => Math.abs(slope) > 0.2).length).toBeGreaterThan(trained.length / 3);
  await program.dispose();
}

function moved({ data, shape }: Tensor<"float32">, direction: Float32Array, step: number): Tensor<"float32"> {
  return f32(
    data.map((value, i) => value + step * direction[i]!),
    shape,
  );
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}

function farthest(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}
