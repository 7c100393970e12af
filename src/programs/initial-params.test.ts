import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { openTinyModel } from "../../test/tiny-model.fixture.js";
import { leaf, type Value } from "../core/graph.js";
import { type Initializer, normal, ones, zeros } from "../core/initializer.js";
import { ModelError } from "../errors.js";
import { lora } from "../methods/lora.js";
import { add } from "../ops/elementwise.js";
import { nodeRuntime } from "../runtime/node.js";
import { textClassification } from "../tasks/text-classification.js";
import { attach, forwardGraph, type TaskHead } from "./adapted-model.js";
import type { BaseModel } from "./base-model.js";
import { initialParams } from "./initial-params.js";

const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
beforeAll(async () => {
  model = await openTinyModel(runtime);
});
afterAll(() => runtime.close());

const query = "bert.encoder.layer.0.attention.self.query";
const param = (path: string, shape: readonly number[], init: Initializer): Value =>
  leaf({ kind: "param", path, init, trained: true, lr_scale: 1, decay: true }, { dtype: "float32", shape });
const start = async (path: string, shape: readonly number[], init: Initializer, seed = 0) =>
  (await initialParams(model, { y: add(param(path, shape, init), param("other", shape, ones)) }, seed)).get(path)!;

describe("a parameter starts", () => {
  it("as the base model's weight at its path", async () => {
    const { data, shape } = await start(`${query}.bias`, [16], { kind: "base" });
    expect(shape).toEqual([16]);
    expect(data).toEqual((await model.read(`${query}.bias`, [16])).data);
    expect(data.some((value) => value !== 0)).toBe(true);
  });

  it("in another way where the base has none, however often that says the same", async () => {
    const twice: Initializer = { kind: "base", otherwise: { kind: "base", otherwise: ones } };
    expect((await start("classifier.bias", [3], twice)).data).toEqual(new Float32Array([1, 1, 1]));
    const error = await failure(() => start("classifier.bias", [3], { kind: "base" }));
    expect(error).toBeInstanceOf(ModelError);
    expect(error.message).toBe("the checkpoint lacks classifier.bias, and nothing says how it starts");
  });

  it("as what its method computes from the base's weights: DoRA's magnitudes are the norms of their rows", async () => {
    const head: TaskHead = { task: textClassification, target: { kind: "number" } };
    const attachment = attach(model, head, lora, lora.config.parse({ use_dora: true }), "user");
    const params = await initialParams(model, forwardGraph(model, head, [attachment]), 0);
    const [path, { data }] = [...params].find(([each]) => each.startsWith(query) && each.includes("magnitude"))!;
    const W = (await model.read(`${query}.weight`, [16, 16])).data;
    expect(data, path).toHaveLength(16);
    for (const [i, norm] of data.entries()) expect(norm).toBeCloseTo(Math.hypot(...W.subarray(16 * i, 16 * (i + 1))), 5);
  });

  it("as noise that depends on seed and path", async () => {
    const of = async (path: string, seed: number) => Array.from((await start(path, [8], normal(1), seed)).data);
    expect(await of("a", 1)).toEqual(await of("a", 1));
    expect(await of("a", 1)).not.toEqual(await of("a", 2));
    expect(await of("a", 1)).not.toEqual(await of("b", 1));
    expect((await start("a", [2], zeros)).data).toEqual(new Float32Array(2));
  });
});
