import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { addProduct, maxAbsDifference } from "../core/matrix.js";
import { fillUniform, keyOf } from "../core/random.js";
import { f32, type Tensor } from "../core/tensor.js";
import { ConfigError } from "../errors.js";
import { directory } from "../io/directory.js";
import { openGguf } from "../io/gguf.js";
import { ggufModel } from "../io/gguf-model.js";
import { fromGgufRows } from "../io/gguf-rows.js";
import { memoryFiles } from "../io/memory-files.js";
import { methodChoice } from "../methods/index.js";
import { nodeRuntime } from "../runtime/node.js";
import type { Runtime } from "../runtime/session.js";
import { textClassification } from "../tasks/text-classification.js";
import { textGeneration } from "../tasks/text-generation.js";
import { attach, forwardGraph, type TaskHead } from "./adapted-model.js";
import { type Adapter, withoutAdapter } from "./adapter.js";
import { type BaseModel, openBaseModel } from "./base-model.js";
import { ggufAdapter } from "./gguf-adapter.js";
import { initialParams } from "./initial-params.js";
import { mergedWeights } from "./merge.js";

const golden = directory(fileURLToPath(new URL("../../test/golden/gguf", import.meta.url)));
let runtime: Runtime;
beforeAll(() => {
  runtime = nodeRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

const opened = async (name: string): Promise<BaseModel> => openBaseModel(await ggufModel(golden, `${name}.gguf`), { id: name, runtime });

/** An adapter with random numbers in all its parameters. */
async function adapterOf(
  model: BaseModel,
  name: string,
  fields: object,
  head: TaskHead = withoutAdapter(model, textGeneration),
): Promise<Adapter> {
  const { method, preset } = methodChoice(name);
  const attachment = attach(model, head, method, method.config.parse({ ...preset, ...fields }), "user");
  const first = await initialParams(model, forwardGraph(model, head, [attachment]), 0);
  const params = new Map(
    [...first].map(([path, { shape, data }]) => {
      const noise = new Float32Array(data.length);
      fillUniform(noise, keyOf(4, path), -0.3, 0.3);
      return [path, f32(noise, shape)] as const;
    }),
  );
  return { head, attachment, params };
}

/** A tensor of the base as llama.cpp would have it with the adapter: W + alpha/r·B·A, all in GGUF's row order. */
async function withUpdate(model: string, adapter: Uint8Array, name: string): Promise<Tensor<"float32">> {
  const base = await openGguf(golden, `${model}.gguf`);
  const file = await openGguf(memoryFiles("here", { "l.gguf": adapter }), "l.gguf");
  const [A, B] = [await file.readFloat32(`${name}.lora_a`), await file.readFloat32(`${name}.lora_b`)];
  const alpha = Number(file.metadata.get("adapter.lora.alpha"));
  return addProduct(await base.readFloat32(name), B, A, alpha / A.shape[0]!) as Tensor<"float32">;
}

describe("what llama.cpp adds up is what merging gives", () => {
  it("in llama, rows reordered, with ranks and scalings of their own", async () => {
    const model = await opened("llama");
    const fields = {
      target_modules: "all-linear",
      r: 4,
      lora_alpha: 6,
      rank_pattern: { q_proj: 2 },
      alpha_pattern: { v_proj: 1 },
      use_rslora: true,
    };
    const adapter = await adapterOf(model, "lora", fields);
    const { bytes, layers, architecture } = ggufAdapter(model, adapter);
    expect(architecture).toBe("llama");
    expect(layers).toHaveLength(14);
    const file = await openGguf(memoryFiles("here", { "l.gguf": bytes }), "l.gguf");
    expect(Object.fromEntries([...file.metadata].filter(([key]) => key !== "general.name"))).toEqual({
      "general.type": "adapter",
      "general.architecture": "llama",
      "adapter.type": "lora",
      "adapter.lora.alpha": 6,
    });
    expect(file.tensors.get("blk.0.attn_q.weight.lora_a")?.shape).toEqual([2, 64]);
    expect(file.tensors.get("blk.0.ffn_down.weight.lora_b")?.shape).toEqual([64, 4]);
    const merged = mergedWeights(model, adapter);
    for (const [name, path, heads] of [
      ["blk.1.attn_q", "model.layers.1.self_attn.q_proj", 4],
      ["blk.1.attn_k", "model.layers.1.self_attn.k_proj", 2],
      ["blk.0.attn_v", "model.layers.0.self_attn.v_proj", undefined],
      ["blk.0.ffn_down", "model.layers.0.mlp.down_proj", undefined],
    ] as const) {
      const { data, shape } = await withUpdate("llama", bytes, `${name}.weight`);
      const rows = heads === undefined ? data : fromGgufRows(data, heads, shape[0]!);
      expect(maxAbsDifference(rows, (await merged.readFloat32(`${path}.weight`)).data)).toBeLessThan(1e-6);
    }
  });

  it("in GPT-2, whose matrices are stored the other way round", async () => {
    const model = await opened("gpt2");
    const adapter = await adapterOf(model, "lora", { target_modules: ["c_attn", "c_fc"], r: 2 });
    const { bytes } = ggufAdapter(model, adapter);
    const { data, shape } = await withUpdate("gpt2", bytes, "blk.0.ffn_up.weight");
    const merged = await mergedWeights(model, adapter).readFloat32("transformer.h.0.mlp.c_fc.weight");
    const turned = Float32Array.from({ length: data.length }, (_, i) => data[(i % shape[0]!) * shape[1]! + Math.floor(i / shape[0]!)]!);
    expect(merged.shape).toEqual([64, 96]);
    expect(maxAbsDifference(turned, merged.data)).toBeLessThan(1e-6);
  });
});

describe("what the layout cannot express is refused by name", () => {
  it("all at once", async () => {
    const model = await opened("qwen2");
    const adapter = await adapterOf(model, "lora", { target_modules: ["q_proj"], lora_bias: true, bias: "all" });
    expect(() => ggufAdapter(model, adapter)).toThrow(ConfigError);
    expect(() => ggufAdapter(model, adapter)).toThrow(/lora_bias[\s\S]*bias "all"/);
  });

  it("DoRA and residual starts", async () => {
    const model = await opened("llama");
    const dora = await adapterOf(model, "lora", { target_modules: ["q_proj"], use_dora: true });
    expect(() => ggufAdapter(model, dora)).toThrow(/use_dora/);
    const table = await adapterOf(model, "lora", { target_modules: ["q_proj", "embed_tokens"] });
    expect(() => ggufAdapter(model, table)).toThrow(/model\.embed_tokens: an embedding table/);
    const pissa = await adapterOf(model, "lora", { target_modules: ["q_proj"], init_lora_weights: "pissa" });
    expect(() => ggufAdapter(model, pissa)).toThrow(/init_lora_weights "pissa"/);
  });

  it("other methods and tasks", async () => {
    const model = await opened("llama");
    const ia3 = await adapterOf(model, "ia3", {});
    expect(() => ggufAdapter(model, ia3)).toThrow(/the method ia3: expected lora/);
    expect((await failure(() => ggufAdapter(model, ia3))).hint).toMatch(/^merge the adapter/);
    const prompt = await adapterOf(model, "prompt-tuning", {});
    const { hint } = await failure(() => ggufAdapter(model, prompt));
    expect(hint).toMatch(/^llama\.cpp has no place for it: .* virtual tokens in front of each text$/);
    const head: TaskHead = { task: textClassification, target: { kind: "classes", labels: ["a", "b"] } };
    const classifier = await adapterOf(model, "lora", { target_modules: ["q_proj"] }, head);
    expect(() => ggufAdapter(model, classifier)).toThrow(/the task text-classification/);
  });
});
