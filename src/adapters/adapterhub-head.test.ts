import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { jsonBytes, openTinyModel } from "../../test/tiny-model.fixture.js";
import { f32 } from "../core/tensor.js";
import { ConfigError, FileError, ModelError } from "../errors.js";
import { memoryFiles } from "../io/memory-files.js";
import { writeSafetensors } from "../io/safetensors.js";
import { loadAdapter } from "../programs/adapter.js";
import type { BaseModel } from "../programs/base-model.js";
import { nodeRuntime } from "../runtime/node.js";
import { tasks } from "../tasks/index.js";
import { filesOf, hubAdapter, hubHead, jsonOf, logitsOf, shapesOf, type Written } from "./adapterhub.fixture.js";
import { headTypeOf, isHeadParam, readHubHead } from "./adapterhub-head.js";

const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
let plain: Written;
beforeAll(async () => {
  model = await openTinyModel(runtime);
  plain = await filesOf(model, await hubAdapter(model, "seq_bn", { reduction_factor: 8 }));
});
afterAll(() => runtime.close());

const read = (files: Written, task?: string) => loadAdapter(model, memoryFiles("adapter", files), task);
const classification = {
  head_type: "classification",
  num_labels: 2,
  layers: 2,
  activation_function: "tanh",
  label2id: { yes: 1, no: 0 },
  use_pooler: false,
  bias: true,
  dropout_prob: null,
};
/** The files with a head that AdapterHub built, with tensors of these shapes. */
function withHead(config: object, shapes: Readonly<Record<string, readonly number[]>>): Written {
  const tensors = Object.entries(shapes).map(([name, shape]) => {
    const size = shape.reduce((product, dim) => product * dim, 1);
    return [
      name,
      f32(
        Float32Array.from({ length: size }, (_, i) => Math.sin(i)),
        shape,
      ),
    ] as const;
  });
  return {
    ...plain,
    "head_config.json": jsonBytes({ config, name: "default", model_class: "BertAdapterModel", version: "adapters.1.3.0" }),
    "model_head.safetensors": writeSafetensors(tensors),
  };
}
const two = {
  "heads.default.1.weight": [16, 16],
  "heads.default.1.bias": [16],
  "heads.default.4.weight": [2, 16],
  "heads.default.4.bias": [2],
};

describe("a head of transformers' own class", () => {
  it("is written with its labels and the class", async () => {
    const { config, name, label2id, num_labels, model_class } = jsonOf(plain, "head_config.json");
    expect({ config, name, label2id, num_labels, model_class }).toEqual({
      config: null,
      name: null,
      label2id: { card: 0, film: 1, hats: 2 },
      num_labels: 3,
      model_class: "BertForSequenceClassification",
    });
    expect(await shapesOf(plain, "model_head.safetensors")).toEqual({ "classifier.weight": [3, 16], "classifier.bias": [3] });
  });

  it("gives task and labels back", async () => {
    expect((await read(plain)).head).toEqual({ ...hubHead, layers: undefined });
  });

  it("is for the task that its class says, and for no other", async () => {
    const error = await failure(() => read(plain, "token-classification"));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe("the adapter adapter is for text-classification, not for token-classification");
  });
});

describe("a head that AdapterHub built", () => {
  it("keeps its structure, and is written as it was read", async () => {
    const loaded = await read(withHead(classification, two));
    expect(loaded.head).toMatchObject({
      target: { kind: "classes", labels: ["no", "yes"] },
      layers: { layers: 2, activation: "tanh", bias: true, pooler: false, dropout: null },
    });
    expect(await logitsOf(model, loaded)).toHaveLength(12);
    const again = await filesOf(model, loaded);
    expect(jsonOf(again, "head_config.json")).toMatchObject({ config: classification, name: "default", model_class: "BertAdapterModel" });
    expect(await shapesOf(again, "model_head.safetensors")).toEqual(two);
  });

  it("has its last layer at another index without an activation, and no bias if it says so", async () => {
    const shapes = { "heads.default.1.weight": [16, 16], "heads.default.1.bias": [16], "heads.default.3.weight": [2, 16] };
    const loaded = await read(withHead({ ...classification, activation_function: null, bias: false }, shapes));
    expect([...loaded.params.keys()].filter((path) => path.startsWith("heads.")).sort()).toEqual([
      "heads.1.bias",
      "heads.1.weight",
      "heads.3.weight",
    ]);
  });

  it("lists its tensors that are missing or of another shape", async () => {
    const { "heads.default.1.bias": _, ...lacking } = two;
    const error = await failure(() =>
      read(withHead(classification, { ...lacking, "heads.default.4.weight": [2, 9], "heads.other.1.bias": [1] })),
    );
    expect(error.message).toContain("heads.default.1.bias: missing, expected [16]");
    expect(error.message).toContain("heads.default.4.weight: [2,9], expected [2,16]");
    expect(error.message).toContain("heads.other.1.bias: [1], not expected");
  });

  it.each<[what: string, fields: object, message: RegExp]>([
    ["another kind", { head_type: "multiple_choice" }, /head_config\.json: head_type "multiple_choice" is not supported/],
    ["no layers", { layers: 0 }, /layers must be whole numbers above 0, not 2 and 0/],
    ["half a label", { num_labels: 1.5 }, /not 1\.5 and 2/],
    ["no number of labels", { num_labels: undefined }, /num_labels and layers must be whole numbers/],
    ["an unknown activation", { activation_function: "swoosh" }, /swoosh/],
  ])("is refused with %s", async (_, fields, message) => {
    const error = await failure(() => read(withHead({ ...classification, ...fields }, two)));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toMatch(message);
  });

  it("takes the labels' ids in any order, and no labels where ids are missing", async () => {
    const labels = async (label2id: unknown) => {
      const { published } = await readHubHead(memoryFiles("adapter", withHead({ ...classification, label2id }, two)));
      return published.labels;
    };
    expect(await labels({ b: 1, a: 0, c: 2 })).toEqual(["a", "b", "c"]);
    expect(await labels({ b: 2, a: 0 })).not.toEqual(["a", "b"]);
  });
});

describe("no head", () => {
  const headless = (): Written => Object.fromEntries(Object.entries(plain).filter(([name]) => !name.includes("head")));

  it("means the base model's own, which stays as it is", async () => {
    const classifier = await openTinyModel(runtime, { labels: 2 });
    const loaded = await loadAdapter(classifier, memoryFiles("adapter", headless()), "text-classification");
    expect(loaded.head).toMatchObject({ base: true, target: { kind: "classes", labels: ["LABEL_0", "LABEL_1"] } });
    expect([...loaded.params.keys()].filter(isHeadParam)).toEqual([]);
  });

  it("is an error where the base model has none either", async () => {
    const error = await failure(() => read(headless(), "text-classification"));
    expect(error).toBeInstanceOf(ModelError);
    expect(error.hint).toContain("classifier.weight");
    await expect(read(headless())).rejects.toThrow("the adapter adapter names no task, and neither does its base model");
  });

  it("in the config's folder is missing weights", async () => {
    const files = { ...headless(), "head_config.json": plain["head_config.json"]! };
    const error = await failure(() => read(files));
    expect(error).toBeInstanceOf(FileError);
    expect(error.message).toContain("adapter has no model_head.safetensors");
  });
});

it("tells heads' parameters from adapters'", () => {
  const of = (path: string): boolean => isHeadParam(path);
  expect(["classifier.weight", "heads.1.bias", "bert.pooler.dense.weight"].map(of)).toEqual([true, true, true]);
  expect(
    [
      "bert.encoder.layer.0.output.adapters.adapter_up.bias",
      "bert.invertible_adapters.F.0.weight",
      "bert.shared_parameters.phm_rule",
      "bert.encoder.layer.0.output.adapter_fusion_layer.key.bias",
    ].map(of),
  ).toEqual([false, false, false, false]);
});

it("has a name for the head of each task that AdapterHub has", () => {
  const known = tasks.map(({ name }) => name);
  expect(known).toEqual(expect.arrayContaining(["text-classification", "token-classification"]));
  expect([headTypeOf("text-classification"), headTypeOf("token-classification")]).toEqual(["classification", "tagging"]);
});
