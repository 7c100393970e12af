import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { jsonBytes, openTinyModel } from "../../test/tiny-model.fixture.js";
import { filesOf, hubAdapter, hubHead, type Written } from "../adapters/adapterhub.fixture.js";
import { ConfigError, ModelError } from "../errors.js";
import { memoryFiles } from "../io/memory-files.js";
import { nodeRuntime } from "../runtime/node.js";
import { textClassification } from "../tasks/text-classification.js";
import { tokenClassification } from "../tasks/token-classification.js";
import { loadAdapter, loadHeldAdapter, withoutAdapter } from "./adapter.js";
import type { BaseModel } from "./base-model.js";

const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
let layers: Written;
let lora: Written;
beforeAll(async () => {
  model = await openTinyModel(runtime);
  layers = await filesOf(model, await hubAdapter(model, "seq_bn"));
  lora = await filesOf(model, await hubAdapter(model, "lora"));
});
afterAll(() => runtime.close());

const files = (written: Written, more: Written = {}) => memoryFiles("adapter", { ...written, ...more });
const record = (json: object): Written => ({ "training.json": jsonBytes(json) });
const withoutHead = (written: Written): Written => Object.fromEntries(Object.entries(written).filter(([name]) => !name.includes("head")));

describe("the task of an adapter", () => {
  it("is what its files name, then training.json, then the caller", async () => {
    const nameless = {
      ...lora,
      "adapter_config.json": jsonBytes({ ...JSON.parse(new TextDecoder().decode(lora["adapter_config.json"])), task_type: null }),
    };
    expect((await loadAdapter(model, files(layers))).head.task).toBe(textClassification);
    expect((await loadAdapter(model, files(nameless, record({ task: "text-classification" })))).head.task).toBe(textClassification);
    expect((await loadAdapter(model, files(nameless), "text-classification")).head.task).toBe(textClassification);
    const error = await failure(() => loadAdapter(model, files(nameless)));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe("the adapter adapter names no task, and neither does its base model");
    expect(error.hint).toContain("--task");
  });

  it("is not another than the one asked for", async () => {
    for (const written of [layers, lora])
      await expect(loadAdapter(model, files(written), "token-classification")).rejects.toThrow(
        "the adapter adapter is for text-classification, not for token-classification",
      );
  });
});

describe("an adapter's labels", () => {
  it("are those of training.json, else of its own files, if there are as many as outputs", async () => {
    const labels = async (written: Written, more: Written = {}) => (await loadAdapter(model, files(written, more))).head.target;
    expect(await labels(layers)).toEqual(hubHead.target);
    expect(await labels(layers, record({ labels: ["a", "b", "c"] }))).toEqual({ kind: "classes", labels: ["a", "b", "c"] });
    expect(await labels(lora, record({ labels: ["a", "b", "c"] }))).toEqual({ kind: "classes", labels: ["a", "b", "c"] });
    expect(await labels(lora, record({ labels: ["a", "b"] }))).toEqual({ kind: "classes", labels: ["LABEL_0", "LABEL_1", "LABEL_2"] });
  });
});

describe("an adapter below others", () => {
  const sentences = { task: textClassification, target: { kind: "classes", labels: ["no", "yes"] } } as const;

  it("needs no head of its own", async () => {
    const held = await loadHeldAdapter(model, files(withoutHead(layers)), sentences);
    expect([...held.params.keys()].every((path) => path.includes(".adapters."))).toBe(true);
    expect(held.params.size).toBe(8);
    expect(held.head).toBe(sentences);
  });

  it("may have one of another task, or of other labels", async () => {
    const head = { task: tokenClassification, target: { kind: "classes", labels: ["O", "B-a", "I-a"] } } as const;
    const tags = await filesOf(model, await hubAdapter(model, "seq_bn", {}, head));
    expect((await loadHeldAdapter(model, files(tags), sentences)).head.task).toBe(tokenClassification);
    expect((await loadHeldAdapter(model, files(layers), sentences)).head.target).toEqual(hubHead.target);
  });

  it("must fit all the same", async () => {
    const wider = await openTinyModel(runtime, { config: { hidden_size: 24 } });
    await expect(loadHeldAdapter(wider, files(withoutHead(layers)), sentences)).rejects.toThrow(/6 tensors differ/);
  });
});

it("a model without an adapter must have a head of its own", async () => {
  const classifier = await openTinyModel(runtime, { labels: 2 });
  expect(withoutAdapter(classifier, textClassification).target).toEqual({ kind: "classes", labels: ["LABEL_0", "LABEL_1"] });
  const error = await failure(() => withoutAdapter(model, textClassification));
  expect(error).toBeInstanceOf(ModelError);
  expect(error.message).toBe("tiny has no trained head for text-classification");
});
