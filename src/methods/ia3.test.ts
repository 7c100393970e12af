import { afterAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { openTinyModel } from "../../test/tiny-model.fixture.js";
import { batchInputs } from "../core/batch.js";
import { input } from "../core/graph.js";
import { parseOptions } from "../core/options.js";
import { AttachError, ConfigError } from "../errors.js";
import { ModelBuilder } from "../models/builder.js";
import { reader, tabulate, total } from "../ops/reference.fixture.js";
import { expectClose, randomTensor, runGraph, testRuntime } from "../ops/run-graph.fixture.js";
import { attach } from "../programs/adapted-model.js";
import { withoutAdapter } from "../programs/adapter.js";
import { paramsOf } from "../programs/program.js";
import { taskNamed } from "../tasks/index.js";
import { ia3 } from "./ia3.js";
import type { Sites } from "./method.js";
import { attachmentOn, bertLinears, bertRoles, layerSites } from "./sublayer.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());
const layer = "bert.encoder.layer.0";
const sites: Sites = { ...layerSites(1, 3), linears: bertLinears(0, 3, 2) };
const configOf = (fields: object) => parseOptions("ia3 option", ia3.config, fields);
const targets = (fields: object): object =>
  Object.fromEntries(
    [...ia3.plan(sites, configOf(fields), "user", []).targets].map(([path, input]) => [path.slice(layer.length + 1), input]),
  );

describe("the targets of IA3", () => {
  it("are keys and values, whose output is rescaled, and what leads out of both parts, whose input is", () => {
    expect(targets({})).toEqual({
      "attention.self.key": false,
      "attention.self.value": false,
      "attention.output.dense": true,
      "output.dense": true,
    });
  });

  it("are those that are named, with the feed-forward ones by the end of their path as in PEFT", () => {
    expect(targets({ target_modules: ["query", "dense"], feedforward_modules: ["output.dense"] })).toEqual({
      "attention.self.query": false,
      "attention.output.dense": true,
      "intermediate.dense": false,
      "output.dense": true,
    });
    expect(targets({ target_modules: ["value"], feedforward_modules: [] })).toEqual({ "attention.self.value": false });
    expect(targets({ target_modules: ["key", "value"], feedforward_modules: ".*lue" })).toEqual({
      "attention.self.key": false,
      "attention.self.value": true,
    });
  });

  it.each([
    ["llama", ["down_proj", "k_proj", "v_proj"]],
    ["mistral", ["down_proj", "k_proj", "v_proj"]],
    ["qwen2", ["down_proj", "q_proj", "v_proj"]],
    ["qwen3", ["down_proj", "q_proj", "v_proj"]],
    ["gpt2", ["h.0.attn.c_attn", "h.0.mlp.c_proj", "h.1.attn.c_attn", "h.1.mlp.c_proj"].map((path) => `transformer.${path}`)],
  ] as const)("are on %s what PEFT's table has: %j", async (family, names) => {
    const model = await openTinyModel(runtime, { family, task: "text-generation" });
    const head = withoutAdapter(model, taskNamed("text-generation"));
    const { plan } = attach(model, head, ia3, configOf({}), "user");
    expect((plan as ReturnType<typeof ia3.plan>).names).toEqual(names);
  });

  it("need both lists or neither", async () => {
    for (const fields of [{ target_modules: ["key"] }, { feedforward_modules: [] }]) {
      const error = await failure(() => targets(fields));
      expect(error).toBeInstanceOf(ConfigError);
      expect(error.message).toContain("target_modules and feedforward_modules both, or neither");
      expect(error.hint).toContain("may be []");
    }
    await expect(failure(() => targets({ target_modules: ["q_proj"], feedforward_modules: [] }))).resolves.toBeInstanceOf(AttachError);
  });

  it("are published by name", () => {
    const config = configOf({});
    expect(ia3.files.publish(config, ia3.plan(sites, config, "user", []), "base")).toMatchObject({
      target_modules: ["attention.output.dense", "attention.self.key", "attention.self.value", "output.dense"].map(
        (name) => `${layer}.${name}`,
      ),
      feedforward_modules: [`${layer}.attention.output.dense`, `${layer}.output.dense`],
      fan_in_fan_out: false,
      init_ia3_weights: true,
    });
  });

  it.each(["r", "lora_alpha", "feed_forward_modules"])("have no field %s", (name) => {
    expect(() => configOf({ [name]: 1 })).toThrow(`ia3 option "${name}" is not known`);
  });
});

describe("a rescaled layer", () => {
  it.each([
    ["attention.self.key", false],
    ["output.dense", true],
  ])("%s multiplies its output, bias included, or its input: %s", async (name, feedforward) => {
    const path = `${layer}.${name}`;
    const m = new ModelBuilder({
      batch: batchInputs(true),
      has: () => false,
      headModules: [],
      attachments: [attachmentOn(sites, ia3)],
    });
    const y = m.linear(path, input("x", "float32", [4, 3]), bertRoles[name]!, 2, { init: { kind: "constant", value: 0 } });
    const params = paramsOf({ y });
    const scaleShape = feedforward ? [1, 3] : [2, 1];
    expect(params.find(({ leaf }) => leaf.path === `${path}.ia3_l`)!.value.shape).toEqual(scaleShape);
    expect(params.find(({ leaf }) => leaf.path === `${path}.ia3_l`)!.leaf.init).toEqual({ kind: "constant", value: 1 });
    const tensors = Object.fromEntries(params.map(({ leaf, value }) => [leaf.path, randomTensor(value.shape.map(Number), leaf.path)]));
    const x = randomTensor([4, 3], "x");
    const feeds = Object.fromEntries(Object.entries(tensors).map(([key, tensor]) => [`param:${key}`, tensor]));
    const results = await runGraph(runtime, { y }, { ...feeds, x });
    const [W, b, at] = [reader(tensors[`${path}.weight`]!), reader(tensors[`${path}.bias`]!), reader(x)];
    const l = (i: number): number => tensors[`${path}.ia3_l`]!.data[i]!;
    expectClose(
      results.y,
      tabulate([4, 2], (t, o) =>
        feedforward ? total(3, (j) => W(o!, j) * l(j) * at(t!, j)) + b(o!) : l(o!) * (total(3, (j) => W(o!, j) * at(t!, j)) + b(o!)),
      ),
    );
  });
});
