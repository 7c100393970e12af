import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { jsonBytes, openTinyModel } from "../../test/tiny-model.fixture.js";
import { fillUniform, keyOf } from "../core/random.js";
import { f32, sizeOf } from "../core/tensor.js";
import { AttachError, ConfigError, FileError } from "../errors.js";
import { memoryFiles } from "../io/memory-files.js";
import { openSafetensors, type RawTensor, writeSafetensors } from "../io/safetensors.js";
import { writeTorch } from "../io/torch-bin-write.js";
import { lora } from "../methods/lora.js";
import { attach, forwardGraph, type TaskHead } from "../programs/adapted-model.js";
import { loadAdapter } from "../programs/adapter.js";
import { adapterFiles } from "../programs/adapter-files.js";
import type { BaseModel } from "../programs/base-model.js";
import { initialParams } from "../programs/initial-params.js";
import { paramsOf } from "../programs/program.js";
import { nodeRuntime } from "../runtime/node.js";
import { textClassification } from "../tasks/text-classification.js";

const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
beforeAll(async () => {
  model = await openTinyModel(runtime);
});
afterAll(() => runtime.close());

const head: TaskHead = { task: textClassification, target: { kind: "classes", labels: ["LABEL_0", "LABEL_1", "LABEL_2"] } };

/** The files of an adapter with random tensors. */
async function written(fields: object = {}): Promise<Record<string, Uint8Array>> {
  const attachment = attach(model, head, lora, lora.config.parse(fields), "user");
  const params = await initialParams(model, forwardGraph(model, head, [attachment]), 0);
  for (const [path, { data }] of params) fillUniform(data, keyOf(3, path), -1, 1);
  return { ...(await adapterFiles(model, { head, attachment, params })) };
}

const configOf = (files: Readonly<Record<string, Uint8Array>>): Record<string, unknown> =>
  JSON.parse(new TextDecoder().decode(files["adapter_config.json"]));

/** The files with other fields in adapter_config.json; undefined takes a field out. */
function withFields(files: Readonly<Record<string, Uint8Array>>, fields: object): Record<string, Uint8Array> {
  return { ...files, "adapter_config.json": jsonBytes({ ...configOf(files), ...fields }) };
}

/** The files with the tensors changed. */
async function withTensors(
  files: Readonly<Record<string, Uint8Array>>,
  change: (tensors: Map<string, RawTensor>) => void,
): Promise<Record<string, Uint8Array>> {
  const source = await openSafetensors(memoryFiles("adapter", files), "adapter_model.safetensors");
  const tensors = new Map<string, RawTensor>();
  for (const [name, stored] of source.tensors) tensors.set(name, { ...stored, bytes: await source.readBytes(name) });
  change(tensors);
  return { ...files, "adapter_model.safetensors": writeSafetensors(tensors) };
}

const read = (files: Readonly<Record<string, Uint8Array>>, task?: string) => loadAdapter(model, memoryFiles("adapter", files), task);
const zeros = (shape: readonly number[]): RawTensor => ({ dtype: "F32", shape, bytes: new Uint8Array(4 * sizeOf(shape)) });
const layer = (i: number): string => `base_model.model.bert.encoder.layer.${i}.attention.self`;

describe("writing and reading", () => {
  it.each([
    {},
    { r: 2, lora_alpha: 5.5, lora_dropout: 0.1, use_rslora: true, target_modules: "all-linear" },
    { target_modules: ".*\\.(query|dense)", bias: "lora_only" },
    { bias: "all", exclude_modules: ["value"] },
    { layers_to_transform: [1], rank_pattern: { query: 3 }, alpha_pattern: { "layer.1.*": 2 } },
    { modules_to_save: ["pooler"], target_modules: ["key", "dense"] },
  ])("%j comes back with the same values, and the same bytes when written again", async (fields) => {
    const first = await written(fields);
    const adapter = await read(first);
    const second = await adapterFiles(model, adapter);
    expect(Object.keys(second).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
    for (const name of Object.keys(second)) expect(Buffer.compare(second[name]!, first[name]!), name).toBe(0);
    const attachment = attach(model, head, lora, lora.config.parse(fields), "user");
    expect((adapter.attachment.plan as { targets: unknown }).targets).toEqual((attachment.plan as { targets: unknown }).targets);
    for (const [path, { data }] of adapter.params) {
      const expected = new Float32Array(data.length);
      fillUniform(expected, keyOf(3, path), -1, 1);
      expect(data, path).toEqual(expected);
    }
  });

  it("writes what Python needs, fields sorted", async () => {
    const files = await written({ r: 4, lora_alpha: 16 });
    const config = configOf(files);
    expect(config).toEqual({
      alpha_pattern: {},
      base_model_name_or_path: "tiny",
      bias: "none",
      fan_in_fan_out: false,
      inference_mode: true,
      init_lora_weights: true,
      lora_alpha: 16,
      lora_dropout: 0,
      modules_to_save: ["classifier", "score"],
      peft_type: "LORA",
      r: 4,
      rank_pattern: {},
      revision: null,
      target_modules: ["query", "value"],
      task_type: "SEQ_CLS",
      use_dora: false,
      use_rslora: false,
    });
    expect(Object.keys(config)).toEqual(Object.keys(config).sort());
    const { tensors, metadata } = await openSafetensors(memoryFiles("adapter", files), "adapter_model.safetensors");
    expect(metadata).toEqual({ format: "pt" });
    expect(Object.fromEntries([...tensors].map(([name, { shape }]) => [name, shape]))).toEqual({
      [`${layer(0)}.query.lora_A.weight`]: [4, 16],
      [`${layer(0)}.query.lora_B.weight`]: [16, 4],
      [`${layer(0)}.value.lora_A.weight`]: [4, 16],
      [`${layer(0)}.value.lora_B.weight`]: [16, 4],
      [`${layer(1)}.query.lora_A.weight`]: [4, 16],
      [`${layer(1)}.query.lora_B.weight`]: [16, 4],
      [`${layer(1)}.value.lora_A.weight`]: [4, 16],
      [`${layer(1)}.value.lora_B.weight`]: [16, 4],
      "base_model.model.classifier.weight": [3, 16],
      "base_model.model.classifier.bias": [3],
    });
  });

  it("reads a file that PEFT wrote", async () => {
    const folder = new URL("../../test/golden/lora-losses/all-linear/initial/", import.meta.url);
    const config = JSON.parse(readFileSync(new URL("adapter_config.json", folder), "utf8")) as Record<string, unknown>;
    const files = withFields(await written(), { ...config, target_modules: undefined, rank_pattern: {}, r: 8, bias: "none" });
    const { attachment } = await read(files);
    expect(attachment.config).toMatchObject({
      use_rslora: true,
      modules_to_save: ["classifier", "score"],
      alpha_pattern: { query: 5, value: 3 },
    });
  });
});

describe("adapter_config.json", () => {
  it("passes over unknown fields that say nothing, and known ones that change nothing here", async () => {
    const idle = { new_one: null, another: false, third: {}, fourth: [], fifth: "", megatron_core: "x", qalora_group_size: 16 };
    const { params } = await read(
      withFields(await written(), { ...idle, peft_version: "0.99", auto_mapping: { a: "b" }, use_dora: false }),
    );
    expect(params.size).toBe(10);
  });

  it("refuses all others by name, at once", async () => {
    const error = await failure(async () =>
      read(withFields(await written(), { use_qalora: true, new_one: 0, layer_replication: [[0, 2]] })),
    );
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain("adapter/adapter_config.json");
    for (const field of ["use_qalora: true", "new_one: 0", "layer_replication: [[0,2]]"]) expect(error.message).toContain(field);
    expect(error.message).not.toContain("lora_alpha");
  });

  it.each(["pissa_niter_16", "olora", "corda", "loftq"])("refuses init_lora_weights %s and says what to do", async (init) => {
    const error = await failure(async () => read(withFields(await written(), { init_lora_weights: init })));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain(`init_lora_weights "${init}" changes the base model's weights`);
    expect(error.hint).toContain("path_initial_model_for_weight_conversion");
  });

  it.each([true, false, "gaussian", "eva", "lora_ga", "mica", "orthogonal"])(
    "takes init_lora_weights %s, which leaves the base alone",
    async (init) => {
      await expect(read(withFields(await written(), { init_lora_weights: init }))).resolves.toBeDefined();
    },
  );

  it("refuses what changes the result in LoRA, and passes over what does not", async () => {
    const files = await written();
    for (const field of [
      { ensure_weight_tying: true },
      { target_parameters: ["experts"] },
      { trainable_token_indices: [1] },
      { alora_invocation_tokens: [1] },
      { use_bdlora: { nblocks: 2 } },
      { arrow_config: { top_k: 1 } },
      { kasa_config: { beta: 1 } },
      { monteclora_config: { num_samples: 8 } },
      { megatron_config: { a: 1 } },
    ]) {
      const error = await failure(() => read(withFields(files, field)));
      expect(error.message).toContain(`${Object.keys(field)[0]}:`);
    }
    const inert = { velora_config: { scale: 1 }, eva_config: { rho: 2 }, lora_ga_config: { scale: "unit" }, runtime_config: { a: 1 } };
    await expect(read(withFields(files, { ...inert, megatron_core: "megatron.core", qalora_group_size: 16 }))).resolves.toBeDefined();
  });

  it("takes init_lora_weights pissa for the base without its largest singular part", async () => {
    const plain = { r: 4, target_modules: ["query"] };
    const files = await written(plain);
    const residual = await read(withFields(files, { init_lora_weights: "pissa" }));
    const again = configOf(await adapterFiles(model, residual));
    expect(again).toMatchObject({ r: 8, lora_alpha: 16, init_lora_weights: true });
    expect(residual.params.size).toBe((await read(files)).params.size + 4);
  });

  it("names modules to save that lie within each other so that PEFT reads its own file", async () => {
    const config = configOf(await written({ modules_to_save: ["embeddings"] }));
    expect(config.modules_to_save).toEqual(["classifier", "bert.embeddings", "score"]);
    expect(configOf(await written({ modules_to_save: ["word_embeddings"] })).modules_to_save).toContain("word_embeddings");
  });

  it("refuses modules to save that the model does not have, and names those it has", async () => {
    const error = await failure(() => written({ modules_to_save: ["LayerNorm", "lm_head", "norm"] }));
    expect(error).toBeInstanceOf(AttachError);
    expect(error.message).toBe('modules_to_save: "lm_head", "norm" match no module of this model');
    for (const name of ["word_embeddings", "LayerNorm", "pooler", "classifier"]) expect(error.hint).toContain(name);
  });

  it("lists fields that do not fit", async () => {
    const error = await failure(async () => read(withFields(await written(), { r: "8", lora_dropout: 2 })));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toMatch(/\n {2}r: /);
    expect(error.message).toMatch(/\n {2}lora_dropout: /);
  });

  it("fills in what is missing with PEFT's defaults", async () => {
    const files = withFields(await written({ r: 8 }), { r: undefined, lora_alpha: undefined, rank_pattern: undefined, bias: undefined });
    expect((await read(files)).attachment.config).toMatchObject({ r: 8, lora_alpha: 8, bias: "none" });
  });

  it("of an unknown peft_type or task_type lists the known ones", async () => {
    const files = await written();
    const type = await failure(() => read(withFields(files, { peft_type: "LOAR" })));
    expect(type).toBeInstanceOf(ConfigError);
    expect(type.message).toContain('peft_type "LOAR" is not supported');
    expect(type.hint).toContain("LORA");
    const task = await failure(() => read(withFields(files, { task_type: "SEQ_CLASS" })));
    expect(task.message).toContain('task_type "SEQ_CLASS" is not supported');
    expect(task.hint).toContain("SEQ_CLS");
    expect((await failure(() => read(withFields(files, { peft_type: undefined })))).message).toContain("has no peft_type");
  });

  it("without a task_type needs to be told the task; with one it must be the same", async () => {
    const files = withFields(await written(), { task_type: null });
    const error = await failure(() => read(files));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain("names no task");
    expect(error.hint).toContain("--task");
    expect((await read(files, "text-classification")).head.task).toBe(textClassification);
  });

  it("may name modules_to_save twice, as PEFT does", async () => {
    const files = withFields(await written(), { modules_to_save: ["classifier", "score", "classifier", "score"] });
    const adapter = await read(files);
    expect(adapter.attachment.config).toMatchObject({ modules_to_save: ["classifier", "score"] });
    expect(configOf(await adapterFiles(model, adapter)).modules_to_save).toEqual(["classifier", "score"]);
  });

  it("may have its tensors in adapter_model.bin; safetensors come first", async () => {
    const files = await written();
    const { "adapter_model.safetensors": weights, ...config } = files;
    const source = await openSafetensors(memoryFiles("adapter", files), "adapter_model.safetensors");
    const tensors = await Promise.all([...source.tensors.keys()].map(async (name) => [name, await source.readFloat32(name)] as const));
    const { params } = await read(files);
    expect((await read({ ...config, "adapter_model.bin": writeTorch(tensors) })).params).toEqual(params);
    expect((await read({ ...files, "adapter_model.bin": weights! })).params).toEqual(params);
  });

  it("must be JSON, and must be there with its tensors", async () => {
    const files = await written();
    const { "adapter_model.safetensors": _, ...config } = files;
    expect(await failure(() => read(config))).toBeInstanceOf(FileError);
    expect((await failure(() => read(config))).message).toContain("has no adapter_model.safetensors or adapter_model.bin");
    expect(await failure(() => read({}))).toBeInstanceOf(FileError);
    expect((await failure(() => read({ ...files, "adapter_config.json": jsonBytes([1]) }))).message).toContain("adapter_config.json");
  });
});

describe("adapter_model.safetensors", () => {
  it("lists all tensors that are missing, of another shape, or not expected", async () => {
    const files = await withTensors(await written(), (tensors) => {
      tensors.delete(`${layer(0)}.query.lora_A.weight`);
      tensors.delete("base_model.model.classifier.bias");
      tensors.set(`${layer(1)}.value.lora_B.weight`, zeros([16, 3]));
      tensors.set(`${layer(1)}.key.lora_B.weight`, zeros([16, 8]));
    });
    const error = await failure(() => read(files));
    expect(error).toBeInstanceOf(AttachError);
    expect(error.message).toContain("4 tensors differ");
    expect(error.message).toContain(`${layer(0)}.query.lora_A.weight: missing, expected [8,16]`);
    expect(error.message).toContain("base_model.model.classifier.bias: missing, expected [3]");
    expect(error.message).toContain(`${layer(1)}.value.lora_B.weight: [16,3], expected [16,8]`);
    expect(error.message).toContain(`${layer(1)}.key.lora_B.weight: [16,8], not expected`);
    expect(error.hint).toContain("trained on tiny");
  });

  it("does not guess the rank from the tensors", async () => {
    const error = await failure(async () => read(withFields(await written({ r: 4 }), { r: 8 })));
    expect(error).toBeInstanceOf(AttachError);
    expect(error.message).toContain("lora_A.weight: [4,16], expected [8,16]");
  });

  it("may hold copies of the head under its wrapper's names", async () => {
    const files = await withTensors(await written({ bias: "all" }), (tensors) => {
      tensors.set("base_model.model.classifier.modules_to_save.bias", zeros([3]));
      tensors.set("base_model.model.classifier.original_module.bias", zeros([3]));
    });
    const { params } = await read(files);
    expect(params.get("classifier.bias")!.data).not.toEqual(new Float32Array(3));
  });

  it("may lack all biases of bias lora_only, which old versions did not save, but not some", async () => {
    const files = await written({ bias: "lora_only" });
    const bias = /base_layer\.bias$/;
    const none = await withTensors(files, (tensors) => {
      for (const name of tensors.keys()) if (bias.test(name)) tensors.delete(name);
    });
    const { params } = await read(none);
    const path = "bert.encoder.layer.0.attention.self.query.bias";
    expect(params.get(path)!.data).toEqual((await model.read(path, [16])).data);
    const some = await withTensors(files, (tensors) => void tensors.delete(`${layer(0)}.query.base_layer.bias`));
    expect((await failure(() => read(some))).message).toContain(`${layer(0)}.query.base_layer.bias: missing, expected [16]`);
  });

  it("may lack the backbone's prefix, as an adapter of a bare BertModel does", async () => {
    const files = await written({ bias: "all" });
    const bare = await withTensors(files, (tensors) => {
      for (const [name, tensor] of [...tensors]) {
        tensors.delete(name);
        tensors.set(name.replace("base_model.model.bert.", "base_model.model."), tensor);
      }
    });
    const adapter = await read(bare);
    expect(adapter.params).toEqual((await read(files)).params);
    const again = (await adapterFiles(model, adapter))["adapter_model.safetensors"]!;
    expect(Buffer.compare(again, files["adapter_model.safetensors"]!)).toBe(0);
  });

  it("names a missing tensor in full when it is there neither with the prefix nor without", async () => {
    const files = await withTensors(await written(), (tensors) => {
      tensors.set("base_model.model.encoder.layer.0.attention.self.qery.lora_A.weight", tensors.get(`${layer(0)}.query.lora_A.weight`)!);
      tensors.delete(`${layer(0)}.query.lora_A.weight`);
    });
    const error = await failure(() => read(files));
    expect(error.message).toContain(`${layer(0)}.query.lora_A.weight: missing`);
    expect(error.message).toContain("layer.0.attention.self.qery.lora_A.weight: [8,16], not expected");
  });

  it("may hold weights of the base, which take its place where they are other numbers", async () => {
    const table = "bert.embeddings.word_embeddings";
    const files = await written({ target_modules: ["word_embeddings"] });
    const own = await model.read(`${table}.weight`, [282, 16]);
    const bytes = (data: Float32Array): RawTensor => ({ dtype: "F32", shape: [282, 16], bytes: new Uint8Array(data.slice().buffer) });
    const copied = `base_model.model.${table}.base_layer.weight`;
    const same = await read(await withTensors(files, (tensors) => void tensors.set(copied, bytes(own.data))));
    expect(same).toEqual(await read(files));
    const moved = own.data.map((value, i) => (i === 5 ? value + 1 : value));
    for (const [name, adapted] of [
      [copied, files],
      [`base_model.model.${table}.weight`, await written()],
    ] as const) {
      const other = await read(await withTensors(adapted, (tensors) => void tensors.set(name, bytes(moved))));
      expect(other.head.brought).toEqual([`${table}.weight`]);
      expect(other.params.get(`${table}.weight`)!.data).toEqual(moved);
      expect(
        paramsOf(forwardGraph(model, other.head, [other.attachment])).find(({ leaf }) => leaf.path === `${table}.weight`)!.leaf.trained,
      ).toBe(false);
      const again = await openSafetensors(memoryFiles("again", await adapterFiles(model, other)), "adapter_model.safetensors");
      expect((await again.readFloat32(name)).data).toEqual(moved);
    }
    const resized = await withTensors(files, (tensors) => void tensors.set(copied, zeros([283, 16])));
    expect((await failure(() => read(resized))).message).toContain(`${copied}: [283,16], not expected`);
  });

  it.each<["BF16" | "F16", readonly number[]]>([
    ["BF16", [0x3f80, 0xc000, 0x3e80]],
    ["F16", [0x3c00, 0xc000, 0x3400]],
  ])("may be %s", async (dtype, bits) => {
    const files = await withTensors(await written(), (tensors) => {
      tensors.set("base_model.model.classifier.bias", { dtype, shape: [3], bytes: new Uint8Array(Uint16Array.from(bits).buffer) });
    });
    expect((await read(files)).params.get("classifier.bias")).toEqual(f32([1, -2, 0.25]));
  });
});

describe("labels", () => {
  const labels = async (files: Readonly<Record<string, Uint8Array>>) => (await read(files)).head.target;

  it("come from training.json beside it, else from the base's id2label, else are made up", async () => {
    const files = await written();
    const record = { labels: ["card", "film", "hats"] };
    expect(await labels({ ...files, "training.json": jsonBytes(record) })).toEqual({ kind: "classes", ...record });
    expect(await labels({ ...files, "training.json": jsonBytes({ labels: ["a", "b"] }) })).toEqual(head.target);
    expect(await labels(files)).toEqual(head.target);
    const named = await openTinyModel(runtime, { config: { id2label: { 0: "x", 1: "y", 2: "z" } } });
    expect((await loadAdapter(named, memoryFiles("adapter", files))).head.target).toEqual({ kind: "classes", labels: ["x", "y", "z"] });
  });
});
