import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { jsonBytes, openTinyModel } from "../../test/tiny-model.fixture.js";
import { f32, type Tensor } from "../core/tensor.js";
import { AttachError, ConfigError } from "../errors.js";
import { memoryFiles } from "../io/memory-files.js";
import { openSafetensors, writeSafetensors } from "../io/safetensors.js";
import { attach, forwardGraph, type TaskHead } from "../programs/adapted-model.js";
import { type Adapter, loadAdapter, loadHeldAdapter } from "../programs/adapter.js";
import { adapterFiles } from "../programs/adapter-files.js";
import type { BaseModel } from "../programs/base-model.js";
import { initialParams } from "../programs/initial-params.js";
import { paramsOf } from "../programs/program.js";
import { nodeRuntime } from "../runtime/node.js";
import { textClassification } from "../tasks/text-classification.js";
import { vera } from "./vera.js";

const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
beforeAll(async () => {
  model = await openTinyModel(runtime); // hidden 16, intermediate 24
});
afterAll(() => runtime.close());

const head: TaskHead = { task: textClassification, target: { kind: "classes", labels: ["LABEL_0", "LABEL_1", "LABEL_2"] } };
const graphOf = (fields: object): ReturnType<typeof forwardGraph> =>
  forwardGraph(model, head, [attach(model, head, vera, vera.config.parse(fields), "user")]);

async function started(fields: object, seed = 0): Promise<Adapter> {
  const attachment = attach(model, head, vera, vera.config.parse(fields), "user");
  return { head, attachment, params: await initialParams(model, graphOf(fields), seed) };
}

const read = (files: Readonly<Record<string, Uint8Array>>): Promise<Adapter> => loadAdapter(model, memoryFiles("adapter", files));
const tensorsOf = async (files: Readonly<Record<string, Uint8Array>>): Promise<ReadonlyMap<string, readonly number[]>> => {
  const { tensors } = await openSafetensors(memoryFiles("adapter", files), "adapter_model.safetensors");
  return new Map([...tensors].map(([name, { shape }]) => [name, shape]));
};
const matrices = ["vera_A", "vera_B"] as const;

describe("the shared matrices", () => {
  it.each([
    [
      ["query", "value"],
      [5, 16],
      [16, 5],
    ],
    [["intermediate.dense"], [5, 16], [24, 5]],
    [["layer.0.output.dense"], [5, 24], [16, 5]],
    ["all-linear", [5, 24], [24, 5]],
  ])("are as large as the largest of %j", async (target_modules, A, B) => {
    const { params } = await started({ r: 5, target_modules });
    expect(matrices.map((name) => params.get(name)!.shape)).toEqual([A, B]);
  });

  it("are made once, and not trained", () => {
    const params = paramsOf(graphOf({ r: 5 }));
    const frozen = params.filter(({ leaf }) => !leaf.trained).map(({ leaf }) => leaf.path);
    expect(frozen.sort()).toEqual([...matrices]);
    expect(params.filter(({ leaf }) => /vera_lambda_[bd]$/.test(leaf.path))).toHaveLength(8);
  });

  it("depend on projection_prng_key, not on the seed of the training", async () => {
    const first = await started({ r: 5 }, 1);
    const other = await started({ r: 5 }, 2);
    const drawn = await started({ r: 5, projection_prng_key: 1 }, 1);
    for (const name of matrices) {
      expect(other.params.get(name)).toEqual(first.params.get(name));
      expect(drawn.params.get(name)).not.toEqual(first.params.get(name));
    }
  });
});

it("starts lambda_d at d_initial and lambda_b at zero; without init_weights at noise and one", async () => {
  const values = async (fields: object): Promise<readonly Float32Array[]> => {
    const { params } = await started({ r: 3, ...fields });
    return ["d", "b"].map((name) => params.get(`bert.encoder.layer.1.attention.self.value.vera_lambda_${name}`)!.data);
  };
  expect(await values({ d_initial: 0.25 })).toEqual([new Float32Array(3).fill(0.25), new Float32Array(16)]);
  const [d, b] = await values({ init_weights: false });
  expect(new Set(d).size).toBe(3);
  expect(b).toEqual(new Float32Array(16).fill(1));
});

describe("files", () => {
  it("hold the matrices under base_model, without model", async () => {
    const files = await adapterFiles(model, await started({ r: 5, target_modules: ["query"], layers_to_transform: 1, bias: "vera_only" }));
    const query = "base_model.model.bert.encoder.layer.1.attention.self.query";
    expect(await tensorsOf(files)).toEqual(
      new Map<string, readonly number[]>([
        ["base_model.vera_A", [5, 16]],
        ["base_model.vera_B", [16, 5]],
        [`${query}.vera_lambda_d`, [5]],
        [`${query}.vera_lambda_b`, [16]],
        [`${query}.base_layer.bias`, [16]],
        ["base_model.model.classifier.weight", [3, 16]],
        ["base_model.model.classifier.bias", [3]],
      ]),
    );
  });

  it("without save_projection leave the matrices out, and readers draw them again", async () => {
    const adapter = await started({ r: 5, save_projection: false, projection_prng_key: 9 });
    const files = await adapterFiles(model, adapter);
    expect([...(await tensorsOf(files)).keys()].filter((name) => matrices.some((matrix) => name.endsWith(matrix)))).toEqual([]);
    expect((await read(files)).params).toEqual(adapter.params);
    const held = await loadHeldAdapter(model, memoryFiles("adapter", files), head);
    for (const name of matrices) expect(held.params.get(name)).toEqual(adapter.params.get(name));
  });

  it("pass matrices over that save_projection says are not there, as PEFT does", async () => {
    const adapter = await started({ r: 5 });
    const other = new Map([...adapter.params].map(([path, tensor]): [string, Tensor<"float32">] => [path, tensor]));
    for (const name of matrices) other.set(name, f32(new Float32Array(80), adapter.params.get(name)!.shape));
    const files = await adapterFiles(model, { ...adapter, params: other });
    expect((await read(files)).params.get("vera_A")!.data).toEqual(new Float32Array(80));
    const config = JSON.parse(new TextDecoder().decode(files["adapter_config.json"])) as object;
    const passed = await read({ ...files, "adapter_config.json": jsonBytes({ ...config, save_projection: false }) });
    for (const name of matrices) expect(passed.params.get(name)).toEqual(adapter.params.get(name));
  });

  it("with save_projection must hold both matrices, in the right sizes", async () => {
    const adapter = await started({ r: 5 });
    const files = await adapterFiles(model, adapter);
    const stored = await openSafetensors(memoryFiles("adapter", files), "adapter_model.safetensors");
    const tensors: [string, Tensor<"float32">][] = [];
    for (const name of stored.tensors.keys()) if (name !== "base_model.vera_B") tensors.push([name, await stored.readFloat32(name)]);
    const wider = tensors.map(([name, tensor]): [string, Tensor<"float32">] =>
      name === "base_model.vera_A" ? [name, f32(new Float32Array(90), [5, 18])] : [name, tensor],
    );
    const error = await failure(() => read({ ...files, "adapter_model.safetensors": writeSafetensors(wider) }));
    expect(error).toBeInstanceOf(AttachError);
    expect(error.message).toContain("base_model.vera_B: missing, expected [16,5]");
    expect(error.message).toContain("base_model.vera_A: [5,18], expected [5,16]");
  });
});

it.each([
  [{ layers_pattern: "layer" }, "layers_pattern needs layers_to_transform"],
  [{ layers_to_transform: [0], target_modules: ".*query" }, "layers_to_transform needs target_modules to be a list"],
  [{ bias: "lora_only" }, "bias"],
  [{ r: 0 }, "r"],
])("refuses %j", (fields, said) => {
  const result = vera.config.safeParse(fields);
  expect(result.error?.issues.map(({ path, message }) => [...path, message].join(": ")).join()).toContain(said);
});

it("refuses published fields that it does not know, by name", async () => {
  const files = await adapterFiles(model, await started({ r: 5 }));
  const config = JSON.parse(new TextDecoder().decode(files["adapter_config.json"])) as object;
  const error = await failure(() => read({ ...files, "adapter_config.json": jsonBytes({ ...config, use_dora: true }) }));
  expect(error).toBeInstanceOf(ConfigError);
  expect(error.message).toContain("use_dora: true");
});
