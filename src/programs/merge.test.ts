import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openTinyModel, overlay, tinyModelFiles } from "../../test/tiny-model.fixture.js";
import { maxAbsDifference } from "../core/matrix.js";
import { fillUniform, keyOf } from "../core/random.js";
import { f32 } from "../core/tensor.js";
import { ConfigError, NumericError, WeightError } from "../errors.js";
import { floatBytes } from "../io/float-bytes.js";
import { memoryFiles } from "../io/memory-files.js";
import { openSafetensors, writeSafetensors } from "../io/safetensors.js";
import type { StoredDType } from "../io/tensor-source.js";
import { methodChoice } from "../methods/index.js";
import { nodeRuntime } from "../runtime/node.js";
import type { Runtime } from "../runtime/session.js";
import { taskNamed } from "../tasks/index.js";
import { textClassification } from "../tasks/text-classification.js";
import { attach, forwardGraph, type TaskHead } from "./adapted-model.js";
import { type Adapter, withoutAdapter } from "./adapter.js";
import { type BaseModel, openBaseModel } from "./base-model.js";
import { initialParams } from "./initial-params.js";
import { mergedWeights, unmergedWeights } from "./merge.js";
import { outputDifference, sampleRows } from "./merge-check.js";
import { configWithHead, configWithoutHead, type FileContent, modelFiles } from "./model-files.js";

const head: TaskHead = { task: textClassification, target: { kind: "classes", labels: ["card", "film", "hats"] } };
let runtime: Runtime;
let model: BaseModel;

beforeAll(async () => {
  runtime = nodeRuntime({ threads: 1 });
  model = await openTinyModel(runtime);
});
afterAll(() => runtime.close());

/** An adapter with random numbers in all its parameters. */
async function adapterOf(name: string, fields: object = {}, base: BaseModel = model): Promise<Adapter> {
  const { method, preset } = methodChoice(name);
  const attachment = attach(base, head, method, method.config.parse({ ...preset, ...fields }), "user");
  const first = await initialParams(base, forwardGraph(base, head, [attachment]), 0);
  const params = new Map(
    [...first].map(([path, { shape, data }]) => {
      const noise = new Float32Array(data.length);
      fillUniform(noise, keyOf(4, path), -0.3, 0.3);
      return [
        path,
        f32(
          data.map((value, i) => value + noise[i]!),
          shape,
        ),
      ] as const;
    }),
  );
  return { head, attachment, params };
}

async function opened(files: Readonly<Record<string, FileContent>>): Promise<BaseModel> {
  const whole: Record<string, Uint8Array> = {};
  for (const [name, content] of Object.entries(files)) {
    const pieces: Uint8Array[] = [];
    if (content instanceof Uint8Array) pieces.push(content);
    else for await (const piece of content) pieces.push(piece);
    whole[name] = Buffer.concat(pieces);
  }
  return openBaseModel(memoryFiles("checkpoint", whole), { id: "checkpoint", runtime });
}

/** The tiny model with its weights in another dtype, but for the norms. */
async function storedAs(dtype: "F16" | "BF16"): Promise<BaseModel> {
  const files = tinyModelFiles();
  const source = await openSafetensors(memoryFiles("tiny", files), "model.safetensors");
  const tensors = await Promise.all(
    [...source.tensors].map(async ([name, { shape }]) => {
      const { data } = await source.readFloat32(name);
      const own = name.includes("LayerNorm") ? "F32" : dtype;
      return [name, { dtype: own as StoredDType, shape, bytes: floatBytes(own, data, name) }] as const;
    }),
  );
  return openBaseModel(overlay(memoryFiles("tiny", files), { "model.safetensors": writeSafetensors(tensors) }), { id: dtype, runtime });
}

describe("a merged checkpoint", () => {
  it("is a model of the task's class that gives what base and adapter give", async () => {
    const adapter = await adapterOf("lora", { target_modules: "all-linear", modules_to_save: ["embeddings.LayerNorm"] });
    const weights = mergedWeights(model, adapter);
    expect(weights.layers).toHaveLength(13);
    const merged = await opened(await modelFiles(model, { weights, config: configWithHead(model, head), dtype: "base" }));
    expect(merged.json).toMatchObject({
      architectures: ["BertForSequenceClassification"],
      id2label: { 0: "card", 1: "film", 2: "hats" },
      label2id: { card: 0, film: 1, hats: 2 },
    });
    const own = withoutAdapter(merged, textClassification);
    expect(own).toEqual(head);
    expect(await outputDifference([model, adapter], [merged, own], sampleRows)).toBeLessThan(1e-5);
    for (const name of ["tokenizer.json", "tokenizer_config.json"])
      expect(await merged.files.read(name)).toEqual(await model.files.read(name));
  });

  it("is split into shards that hold what the index says", async () => {
    const adapter = await adapterOf("ia3");
    const weights = mergedWeights(model, adapter);
    const options = { weights, config: configWithHead(model, head), dtype: "base" } as const;
    const files = await modelFiles(model, { ...options, maxShardBytes: 12_000 });
    const shards = Object.keys(files).filter((name) => name.endsWith(".safetensors"));
    expect(shards.length).toBeGreaterThan(3);
    expect(shards[0]).toBe(`model-00001-of-0000${shards.length}.safetensors`);
    const index = JSON.parse(Buffer.from(files["model.safetensors.index.json"] as Uint8Array).toString());
    expect(Object.keys(index.weight_map).sort()).toEqual([...weights.tensors.keys()].sort());
    const sizes = [...weights.tensors.values()].map(({ shape }) => 4 * shape.reduce((a, b) => a * b, 1));
    expect(index.metadata.total_size).toBe(sizes.reduce((a, b) => a + b));
    const merged = await opened(files);
    expect(await outputDifference([model, adapter], [merged, head], sampleRows)).toBeLessThan(1e-5);
  });

  it.each(["F16", "BF16"] as const)("keeps the dtypes of a base in %s, or has one of the caller's choice", async (dtype) => {
    const base = await storedAs(dtype);
    const adapter = await adapterOf("lora", {}, base);
    const weights = mergedWeights(base, adapter);
    const config = configWithHead(base, head);
    const kept = await opened(await modelFiles(base, { weights, config, dtype: "base" }));
    expect(kept.dtype("bert.encoder.layer.0.attention.self.query.weight")).toBe(dtype);
    expect(kept.dtype("bert.embeddings.LayerNorm.weight")).toBe("F32");
    expect(kept.dtype("classifier.weight")).toBe(dtype);
    expect(kept.json).not.toHaveProperty("dtype");
    const rounded = await outputDifference([base, adapter], [kept, head], sampleRows);
    expect(rounded).toBeGreaterThan(1e-4);
    const wide = await opened(await modelFiles(base, { weights, config, dtype: "f32" }));
    expect(wide.dtype("classifier.weight")).toBe("F32");
    expect(wide.json).toMatchObject({ dtype: "float32" });
    expect(await outputDifference([base, adapter], [wide, head], sampleRows)).toBeLessThan(1e-5);
    const older = await opened(await modelFiles(base, { weights, config: { ...config, torch_dtype: "float16" }, dtype: "bf16" }));
    expect(older.json).toMatchObject({ torch_dtype: "bfloat16" });
    expect(older.dtype("bert.embeddings.LayerNorm.weight")).toBe("BF16");
  });

  it("does not come of an adapter with numbers that are not finite", async () => {
    const adapter = await adapterOf("lora");
    const path = "bert.encoder.layer.1.attention.self.value.lora_A.weight";
    adapter.params.get(path)!.data[3] = Number.NaN;
    const { readFloat32 } = mergedWeights(model, adapter);
    await expect(readFloat32("bert.encoder.layer.1.attention.self.value.weight")).rejects.toThrow(NumericError);
    await expect(readFloat32("bert.encoder.layer.1.attention.self.value.weight")).rejects.toThrow(
      /layer\.1\.attention\.self\.value\.weight/,
    );
  });

  it.each(["prefix-tuning", "prompt-tuning", "p-tuning", "seq_bn"])(
    "does not come of %s, which says why and what else does",
    async (name) => {
      const adapter = await adapterOf(name);
      const refused = () => mergedWeights(model, adapter);
      expect(refused).toThrow(ConfigError);
      expect(refused).toThrow(/adds computation that no weight of the base can hold: (virtual tokens|keys and values|layers)/);
      try {
        refused();
      } catch (error) {
        expect((error as ConfigError).hint).toContain("lora, vera, ia3, bitfit, head, full");
      }
    },
  );
});

it("VeRA's matrices are cut to each layer's sizes, and none is changed that has no vectors of its own", async () => {
  const adapter = await adapterOf("vera", { target_modules: ["query", "output.dense"], r: 3 });
  const weights = mergedWeights(model, adapter);
  const merged = await openBaseModel(model.files, { id: "merged", runtime, weights });
  expect(weights.layers).toHaveLength(6);
  expect(await outputDifference([model, adapter], [merged, head], sampleRows)).toBeLessThan(1e-5);
});

it.each(["lm_head", "embed_tokens"])("%s that is apart from what the base ties it to is refused", async (module) => {
  const base = await openTinyModel(runtime, { family: "llama", task: "text-generation" });
  const words = withoutAdapter(base, taskNamed("text-generation"));
  const { method } = methodChoice("lora");
  const attachment = attach(base, words, method, method.config.parse({ modules_to_save: [module] }), "user");
  const params = await initialParams(base, forwardGraph(base, words, [attachment]), 0);
  expect(params.get(module === "lm_head" ? "lm_head.weight" : "model.embed_tokens.weight")!.data).toEqual(
    (await base.read("model.embed_tokens.weight", [311, 16])).data,
  );
  const refused = () => mergedWeights(base, { head: words, attachment, params });
  expect(refused).toThrow(ConfigError);
  expect(refused).toThrow(/it changes (lm_head|model\.embed_tokens), but word embeddings and output matrix are one weight in the base/);
});

it.each([
  ["llama", "text-generation", ["embed_tokens"]],
  ["llama", "text-generation", ["lm_head"]],
  ["bert", "fill-mask", ["word_embeddings"]],
] as const)("of %s for %s, adapted %j is refused too where the two are one weight", async (family, task, target_modules) => {
  const base = await openTinyModel(runtime, { family, task, ...(task === "fill-mask" ? { labels: 1 } : {}) });
  const words = withoutAdapter(base, taskNamed(task));
  const { method } = methodChoice("lora");
  const attachment = attach(base, words, method, method.config.parse({ target_modules }), "user");
  const params = await initialParams(base, forwardGraph(base, words, [attachment]), 0);
  expect(() => mergedWeights(base, { head: words, attachment, params })).toThrow(
    /it changes .*, but word embeddings and output matrix are one weight in the base/,
  );
});

describe("unmerging", () => {
  const mergedOf = (adapter: Adapter): Promise<BaseModel> =>
    openBaseModel(model.files, { id: "merged", runtime, weights: mergedWeights(model, adapter) });

  it.each([
    ["lora", { target_modules: "all-linear", use_rslora: true }],
    ["ia3", {}],
    ["vera", { target_modules: "all-linear", r: 5 }],
  ])("of %s needs no original: all but the head is as before", async (name, fields) => {
    const adapter = await adapterOf(name, fields);
    const merged = await mergedOf(adapter);
    const back = unmergedWeights(merged, adapter, undefined);
    expect(back.dropped).toEqual(["classifier.weight", "classifier.bias"]);
    expect(back.fromOriginal).toEqual([]);
    expect(back.tensors.size).toBe([...mergedWeights(model, adapter).tensors.keys()].length - 2);
    for (const [path, { shape }] of back.tensors)
      expect(maxAbsDifference((await back.readFloat32(path)).data, (await model.read(path, shape)).data), path).toBeLessThan(1e-6);
    const base = await opened(await modelFiles(merged, { weights: back, config: configWithoutHead(merged), dtype: "base" }));
    expect(base.json).toMatchObject({ architectures: ["BertModel"] });
    expect(base.shape("classifier.weight")).toBeUndefined();
  });

  it("refuses what only the original can tell, all of it at once", async () => {
    const adapter = await adapterOf("bitfit");
    const merged = await mergedOf(adapter);
    const refused = () => unmergedWeights(merged, adapter, undefined);
    expect(refused).toThrow(WeightError);
    expect(refused).toThrow(/replaced them: 18 faults:\n {2}bert\.embeddings\.LayerNorm\.bias\n(.*\n){16} {2}bert\.pooler\.dense\.bias$/);
    expect(refused).not.toThrow(/classifier/);
    const dora = await adapterOf("dora");
    const { readFloat32 } = unmergedWeights(await mergedOf(dora), dora, undefined);
    await expect(readFloat32("bert.encoder.layer.0.attention.self.query.weight")).rejects.toThrow(
      /divides the rows of W \+ sBA by their norms/,
    );
  });

  it("refuses an original of other sizes, all differences at once", async () => {
    const adapter = await adapterOf("lora");
    const other = await openTinyModel(runtime, { config: { hidden_size: 24 } });
    const merged = await mergedOf(adapter);
    expect(() => unmergedWeights(merged, adapter, other)).toThrow(
      /of other sizes than the merged checkpoint: \d+ faults:\n {2}bert\.embeddings\.word_embeddings\.weight: \[282,24\], merged \[282,16\]\n(.*\n){19}/,
    );
  });

  it("refuses IA3 with factors of 0", async () => {
    const adapter = await adapterOf("ia3");
    adapter.params.get("bert.encoder.layer.0.attention.self.key.ia3_l")!.data[2] = 0;
    const { readFloat32 } = unmergedWeights(await mergedOf(adapter), adapter, undefined);
    await expect(readFloat32("bert.encoder.layer.0.attention.self.key.weight")).rejects.toThrow(/1 of 16 factors are 0/);
  });
});

it("config.json keeps what it does not know, and loses the labels of a head before", () => {
  const json = { model_type: "bert", own: 1, id2label: { 0: "x" }, label2id: { x: 0 }, num_labels: 1, problem_type: "regression" };
  const base = { ...model, json };
  expect(configWithHead(base, { ...head, target: { kind: "number" } })).toEqual({
    model_type: "bert",
    own: 1,
    architectures: ["BertForSequenceClassification"],
    id2label: { 0: "LABEL_0" },
    label2id: { LABEL_0: 0 },
  });
  expect(configWithoutHead(base)).toEqual({ model_type: "bert", own: 1, architectures: ["BertModel"] });
});
