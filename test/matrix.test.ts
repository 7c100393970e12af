import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { topological } from "../src/core/graph.js";
import { f32 } from "../src/core/tensor.js";
import { packTexts } from "../src/data/collate.js";
import type { RowTable } from "../src/data/rows.js";
import { memoryFiles } from "../src/io/memory-files.js";
import { bottleneckPresets } from "../src/methods/bottleneck-config.js";
import { methods } from "../src/methods/index.js";
import type { Method } from "../src/methods/method.js";
import { families } from "../src/models/index.js";
import { afterOp } from "../src/ops/recompute.js";
import { expectClose } from "../src/ops/run-graph.fixture.js";
import { attach, forwardGraph, type TaskHead, trainGraph } from "../src/programs/adapted-model.js";
import { type Adapter, loadAdapter, withoutAdapter } from "../src/programs/adapter.js";
import { adapterFiles } from "../src/programs/adapter-files.js";
import { type BaseModel, openBaseModel } from "../src/programs/base-model.js";
import { initialParams } from "../src/programs/initial-params.js";
import { packingOf } from "../src/programs/limits.js";
import { mergedWeights, unmergedWeights } from "../src/programs/merge.js";
import { predictor } from "../src/programs/pipeline.js";
import { loadProgram, paramsOf } from "../src/programs/program.js";
import { nodeRuntime } from "../src/runtime/node.js";
import type { Runtime } from "../src/runtime/session.js";
import type { Example, Task } from "../src/tasks/task.js";
import { textClassification } from "../src/tasks/text-classification.js";
import { textGeneration } from "../src/tasks/text-generation.js";
import type { TrainingOptions } from "../src/train/options.js";
import { type TrainResult, train } from "../src/train/trainer.js";
import { gradcheck, moved, noise } from "./model-gradcheck.fixture.js";
import { collect, openTinyModel, type TinyFamily, tableOf, tinyFamilies, tinyOptions, tinyRows } from "./tiny-model.fixture.js";

/** Configs under which a method is tried: the default, one that uses as much of it as goes, and the fields that are its own dropout. */
interface Settings {
  readonly configs: readonly object[];
  /** Absent where the method has no dropout of its own. */
  readonly dropout?: object;
  /** Whether it starts as the base model; prompts and prefixes start from noise, and some adapter layers near the base model. */
  readonly zeroStart: boolean | ((fields: object) => boolean | "near");
  /** Whether it trains nothing beside the task's head. */
  readonly headOnly?: boolean;
  /** A learning rate for the tiny model. */
  readonly rate: number;
  /** Steps after which the loss has fallen to this part of the first one. */
  readonly falls: readonly [steps: number, to: number];
  /** Whether weights of the base can hold what it does. */
  readonly merges: boolean;
  /** With this field, the gradient of these parameters takes a part of the graph for constant: central differences do not give it. */
  readonly detached?: { readonly field: string; readonly params: RegExp };
}

/** A new method adds an entry. */
const settings: Readonly<Record<string, Settings>> = {
  lora: {
    configs: [
      {},
      {
        target_modules: "all-linear",
        bias: "all",
        lora_bias: true,
        use_rslora: true,
        rank_pattern: { "q[a-z_]+": 3 },
        modules_to_save: ["word_embeddings", "LayerNorm"],
      },
      { init_lora_weights: "pissa", r: 4, rank_pattern: { "v[a-z_]+": 3 }, use_rslora: true, loraplus_lr_ratio: 2 },
      { use_dora: true, target_modules: "all-linear", init_lora_weights: "pissa_niter_2", r: 4 },
      {
        target_modules: ".*(word|position)_embeddings|.*(query|q_lin)",
        r: 3,
        rank_pattern: { position_embeddings: 2 },
        loraplus_lr_ratio: 2,
      },
      { use_dora: true, target_modules: ["word_embeddings"], r: 3, init_lora_weights: "pissa" },
    ],
    dropout: { lora_dropout: 0.3, init_lora_weights: "orthogonal" },
    merges: true,
    zeroStart: true,
    rate: 2e-2,
    falls: [30, 0.4],
    detached: { field: "use_dora", params: /\.lora_(embedding_)?[AB]/ },
  },
  vera: {
    configs: [
      { d_initial: 1 }, // at 0.1 the slopes are too small to compare
      { r: 16, target_modules: "all-linear", bias: "all", save_projection: false, projection_prng_key: 7, modules_to_save: ["LayerNorm"] },
      { r: 8, init_weights: false, bias: "vera_only", d_initial: 0.3 },
    ],
    dropout: { r: 16, vera_dropout: 0.3 },
    merges: true,
    zeroStart: (fields) => !("init_weights" in fields),
    rate: 5e-2,
    falls: [80, 0.6],
  },
  ia3: {
    configs: [{}, { target_modules: "all-linear", feedforward_modules: [], modules_to_save: null }],
    merges: true,
    zeroStart: true,
    rate: 5e-2,
    falls: [80, 0.6],
  },
  bottleneck: {
    configs: [
      { reduction_factor: 4, non_linearity: "tanh" },
      { ...bottleneckPresets.par_bn, scaling: "learned", leave_out: [1] },
      {
        ...bottleneckPresets.double_seq_bn_inv,
        reduction_factor: { "0": 3, default: 5 },
        use_gating: true,
        ln_before: true,
        ln_after: true,
        scaling: "channel",
        non_linearity: "tanh",
      },
      { ...bottleneckPresets.compacter, phm_dim: 2, reduction_factor: 4, factorized_phm_rule: true, phm_init_range: 1 },
    ],
    dropout: { reduction_factor: 4, dropout: 0.3, init_weights: "houlsby" },
    merges: false,
    zeroStart: (fields) => ("init_weights" in fields ? true : "ln_after" in fields || "phm_layer" in fields ? false : "near"),
    rate: 3e-2,
    falls: [80, 0.6],
  },
  bitfit: { configs: [{}, { biases: "query-and-up" }, { train: "norms" }], merges: true, zeroStart: true, rate: 3e-2, falls: [80, 0.65] },
  "prefix-tuning": {
    configs: [{ num_virtual_tokens: 3 }, { num_virtual_tokens: 2, prefix_projection: true, encoder_hidden_size: 6, init_weights: "zero" }],
    merges: false,
    zeroStart: false,
    rate: 5e-2,
    falls: [80, 0.75],
  },
  "prompt-tuning": {
    configs: [
      { num_virtual_tokens: 3 },
      { num_virtual_tokens: 5, prompt_tuning_init: "TEXT", prompt_tuning_init_text: "how many hats" },
      { num_virtual_tokens: 4, prompt_tuning_init: "SAMPLE_VOCAB" },
    ],
    merges: false,
    zeroStart: false,
    rate: 5e-2,
    falls: [80, 0.75],
  },
  "p-tuning": {
    configs: [
      { num_virtual_tokens: 3 },
      { num_virtual_tokens: 2, encoder_reparameterization_type: "LSTM", encoder_hidden_size: 5, encoder_num_layers: 2 },
    ],
    dropout: { num_virtual_tokens: 3, encoder_reparameterization_type: "LSTM", encoder_hidden_size: 5, encoder_dropout: 0.3 },
    merges: false,
    zeroStart: false,
    rate: 3e-2,
    falls: [80, 0.75],
  },
  head: { configs: [{}], merges: true, zeroStart: true, headOnly: true, rate: 5e-2, falls: [80, 0.8] },
  full: { configs: [{}], merges: true, zeroStart: true, rate: 1e-2, falls: [30, 0.4] },
};

it("covers all methods and model families", () => {
  expect(Object.keys(settings).sort()).toEqual(methods.map(({ name }) => name).sort());
  expect(Object.keys(tinyFamilies).sort()).toEqual(families.map(({ model_types }) => model_types[0]).sort());
});

/** Decoders are tried with each method's first config, one of each kind: weights as [in, out], shared keys, normed heads. */
const decoders: readonly TinyFamily[] = ["gpt2", "llama", "qwen3"];
const encoders: readonly TinyFamily[] = ["bert", "roberta", "distilbert"];
const cells = methods.flatMap((method) => [...encoders, ...decoders].map((family) => ({ method, family, name: method.name })));
const rows = tableOf(tinyRows(16));
const head: TaskHead = { task: textClassification, target: textClassification.target(rows) };

describe.each(cells)("$name × $family", ({ method, family }) => {
  const { configs, dropout, zeroStart, merges, headOnly = false, rate, falls, detached } = settings[method.name]!;
  const plain = method.config.parse(configs[0]);
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

  const causal = decoders.includes(family);

  it("has the same gradient where layers are computed a second time", async () => {
    const attachment = attach(model, head, method, plain, "user");
    const graphs = [false, true].map((recompute) => trainGraph(model, head, [attachment], 0.1, recompute));
    const first = await initialParams(model, graphs[0]!, 0);
    const params = new Map([...first].map(([path, tensor]) => [path, moved(tensor, noise(tensor, "recompute", path), 0.1)] as const));
    const packed = packTexts(examples, packingOf(model, [attachment]));
    const batch = { ...packed.feeds, ...textClassification.feeds(packed, examples, head.target), lossScale: f32([1], []) };
    const [once, twice] = await Promise.all(
      graphs.map(async (graph) => (await loadProgram(model, graph)).run({ batch, params, noise: [2, 7] })),
    );
    expect(Object.keys(twice!)).toEqual(Object.keys(once!));
    for (const [name, { shape, data }] of Object.entries(once!)) expectClose(twice![name], { shape, data: Array.from(data, Number) }, 2e-5);
    const seconds = topological(Object.values(graphs[1]!)).filter(({ source }) => source.kind === "op" && source.op === afterOp);
    expect(seconds.length).toBe(headOnly ? 0 : 1); // of two layers the first
  });

  describe.each(causal ? configs.slice(0, 1) : configs)("%j", (fields) => {
    const config = method.config.parse(fields);

    it("attaches somewhere, and trains no more than it says", () => {
      const attachment = attach(model, head, method, config, "user");
      const params = paramsOf(forwardGraph(model, head, [attachment]));
      const modules = model.family.heads[head.task.name]!.modules;
      const own = params.filter(({ leaf }) => leaf.trained && !modules.some((module) => leaf.path.startsWith(`${module}.`)));
      expect(own.length > 0).toBe(!headOnly);
      const graph = trainGraph(model, head, [attachment], "off");
      const grads = Object.keys(graph).filter((name) => name.startsWith("grad:"));
      expect(grads.sort()).toEqual(params.flatMap(({ leaf }) => (leaf.trained ? [`grad:${leaf.path}`] : [])).sort());
    });

    const start = typeof zeroStart === "function" ? zeroStart(fields) : zeroStart;
    it(start === true ? "starts as the base model" : start === "near" ? "starts near the base model" : "starts from noise", async () => {
      const attachment = attach(model, head, method, config, "user");
      const params = await initialParams(model, forwardGraph(model, head, [attachment]), 5);
      const first = await logitsOf(model, { head, attachment, params }, examples);
      const program = await loadProgram(model, forwardGraph(model, head, []));
      const packed = packTexts(examples, packingOf(model, []));
      const batch = { ...packed.feeds, ...textClassification.feeds(packed, examples, head.target) };
      const { logits } = await program.run({ batch, params });
      const distance = farthest(first, logits!.data as Float32Array);
      if (start === true) expect(distance).toBeLessThan(1e-5);
      else if (start === "near") expect(distance).toBeLessThan(0.1);
      else expect(distance).toBeGreaterThan(1e-2);
    });

    it("has the right gradient, by central differences of the program's loss", async () => {
      const apart = detached !== undefined && detached.field in fields ? detached.params : undefined;
      await gradcheck(model, head, attach(model, head, method, config, "user"), examples, { detached: apart });
    });

    it("learns: the loss falls", async () => {
      const { losses, result } = await run(config, { max_steps: causal ? 2 * falls[0] : falls[0], batch_size: 16, learning_rate: rate });
      expect(losses[0]).toBeGreaterThan(0.8);
      expect(losses.at(-1)).toBeLessThan((causal ? Math.max(falls[1], 0.8) : falls[1]) * losses[0]!);
      expect(result.finished).toBe(true);
    });

    it(merges ? "can be merged, and unmerged again" : "cannot be merged, and says why", async () => {
      const attachment = attach(model, head, method, config, "user");
      const first = await initialParams(model, forwardGraph(model, head, [attachment]), 0);
      const params = new Map([...first].map(([path, tensor]) => [path, moved(tensor, noise(tensor, "merge", path), 0.2)] as const));
      const adapter: Adapter = { head, attachment, params };
      if (!merges) return expect(() => mergedWeights(model, adapter)).toThrow(/cannot be merged: .* that no weight of the base can hold/);
      const merged = await openBaseModel(model.files, { id: "merged", runtime, weights: mergedWeights(model, adapter) });
      const expected = await logitsOf(model, adapter, examples);
      expect(farthest(await logitsOf(merged, head, examples), expected)).toBeLessThan(1e-4);
      const start = await logitsOf(model, { head, attachment, params: first }, examples);
      expect(farthest(expected, start)).toBeGreaterThan(0.05);
      const { tensors, readFloat32, layers, fromOriginal, dropped } = unmergedWeights(merged, adapter, model);
      for (const [path, { shape }] of tensors)
        expect(farthest((await readFloat32(path)).data, (await model.read(path, shape)).data), path).toBeLessThan(1e-6);
      expect(dropped.every((path) => first.has(path) && model.shape(path) === undefined)).toBe(true);
      expect(fromOriginal.filter((path) => layers.some((layer) => path === `${layer}.weight`))).toEqual([]);
    });

    it("is the same after saving and loading", async () => {
      const { result } = await run(config, { max_steps: 3 });
      const first = await adapterFiles(model, result.adapter);
      const labels = { labels: (head.target as { labels: readonly string[] }).labels };
      const files = { ...first, "training.json": new TextEncoder().encode(JSON.stringify(labels)) };
      const loaded = await loadAdapter(model, memoryFiles("adapter", files));
      expect(loaded.head).toEqual(head);
      const second = await adapterFiles(model, loaded);
      for (const name of Object.keys(first)) expect(Buffer.compare(second[name]!, first[name]!), name).toBe(0);
      const [again, before] = [await logitsOf(model, loaded, examples), await logitsOf(model, result.adapter, examples)];
      // what a published value is computed from may be rounded otherwise where it is computed alone
      if (loaded.params.size < result.adapter.params.size) expect(farthest(again, before)).toBeLessThan(1e-5);
      else expect(again).toEqual(before);
    });
  });

  it.runIf(causal && !headOnly)("as a language model: learns, and is the same after saving and loading", async () => {
    const words: TaskHead = { ...withoutAdapter(model, textGeneration), base: true };
    const texts = tableOf(tinyRows(4).map(({ text, label }) => ({ prompt: text, completion: ` ${label}` })));
    const completions = texts.rows.map((_, i) => textGeneration.encode(texts, i, words.target, model.tokenizer, 32));
    const options = { max_steps: 30, batch_size: 4, learning_rate: rate };
    const { losses, result } = await trainOn(model, method, plain, options, { task: textGeneration, rows: texts });
    // measured: llama and qwen3 fall to 0.93 or less; of GPT-2 the tiny model's logits start near 0, and prompts hardly move them: 0.9995 or less
    expect(losses.at(-1)! / losses[0]!).toBeLessThan(family === "gpt2" ? 0.9997 : 0.95);
    const { adapter } = result;
    expect(adapter.head).toEqual(words);
    const given = await logitsOf(model, adapter, completions);
    expect(farthest(given, await logitsOf(model, words, completions))).toBeGreaterThan(0.01);
    const loaded = await loadAdapter(model, memoryFiles("adapter", await adapterFiles(model, adapter)), textGeneration.name);
    expect(farthest(await logitsOf(model, loaded, completions), given)).toBeLessThan(1e-5);
    if (!merges) return;
    const merged = await openBaseModel(model.files, { id: "merged", runtime, weights: mergedWeights(model, adapter) });
    expect(farthest(await logitsOf(merged, words, completions), given)).toBeLessThan(1e-4);
  });

  it("gives the same losses for the same seed, others for another", async () => {
    const config = plain;
    const [first, again, other] = [await run(config, { seed: 1 }), await run(config, { seed: 1 }), await run(config, { seed: 2 })];
    expect(again.losses).toEqual(first.losses);
    expect(again.result.adapter.params).toEqual(first.result.adapter.params);
    expect(other.losses).not.toEqual(first.losses);
    const graph = forwardGraph(model, head, [attach(model, head, method, config, "user")]);
    expect(await initialParams(model, graph, 2)).not.toEqual(await initialParams(model, graph, 1));
  });

  it("draws dropout from the seed, and has none in evaluation", async () => {
    const without = await run(plain);
    for (const [config, options] of [
      ...(dropout === undefined ? [] : [[method.config.parse(dropout), {}] as const]),
      [plain, { dropout: "model" }] as const,
      [plain, { dropout: 0.2 }] as const,
    ]) {
      const first = await run(config, { ...options, eval_on_start: true });
      expect(first.losses).not.toEqual(without.losses);
      expect((await run(config, { ...options, eval_on_start: true })).losses).toEqual(first.losses);
      expect((await run(config, { ...options, seed: 1 })).losses).not.toEqual(first.losses);
      const { adapter, loss } = first.result;
      const values = topological(Object.values(forwardGraph(model, head, [adapter.attachment])));
      expect(values.some(({ source }) => source.kind === "mask")).toBe(false);
      const logits = await logitsOf(model, adapter, examples);
      expect(
        textClassification.evaluate(
          examples.map((_, i) => logits.subarray(3 * i, 3 * i + 3)),
          examples,
          head.target,
        ).loss,
      ).toBeCloseTo(loss!, 5);
    }
  });
});

/** Trains on the rows, evaluates on the same, and gives the losses of all steps. */
async function trainOn(
  model: BaseModel,
  method: Method,
  config: object,
  options: Partial<TrainingOptions>,
  given: { readonly task: Task; readonly rows: RowTable } = { task: textClassification, rows },
): Promise<{ readonly losses: readonly number[]; readonly result: TrainResult }> {
  const loop = train({
    model,
    task: given.task,
    method,
    config,
    rows: given.rows,
    evalRows: given.rows,
    options: tinyOptions({ max_steps: 4, warmup_ratio: 0, ...options }),
    now: () => 0,
  });
  const { events, result } = await collect(loop);
  return { losses: events.flatMap((event) => (event.event === "step" ? [event.loss] : [])), result };
}

async function logitsOf(model: BaseModel, adapter: Adapter | TaskHead, examples: readonly Example[]): Promise<Float32Array> {
  const ready = predictor(model, adapter);
  const logits = Float32Array.from((await ready.run(examples)).flatMap((row) => Array.from(row)));
  await ready.dispose();
  return logits;
}

function farthest(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}
