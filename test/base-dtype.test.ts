import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { topological } from "../src/core/graph.js";
import { methods } from "../src/methods/index.js";
import type { LinearSite, Sites } from "../src/methods/method.js";
import { families } from "../src/models/index.js";
import { attach, decodeGraph, forwardGraph, type TaskHead, trainGraph, withBaseDtype } from "../src/programs/adapted-model.js";
import { type Adapter, withoutAdapter } from "../src/programs/adapter.js";
import { BASE_DTYPES, type BaseDtype, formOf, pickBaseDtype } from "../src/programs/base-dtype.js";
import type { BaseModel } from "../src/programs/base-model.js";
import { initialParams } from "../src/programs/initial-params.js";
import { predictor } from "../src/programs/pipeline.js";
import { countParameters } from "../src/programs/program.js";
import { nodeRuntime } from "../src/runtime/node.js";
import type { Runtime } from "../src/runtime/session.js";
import type { Example } from "../src/tasks/task.js";
import { textClassification } from "../src/tasks/text-classification.js";
import { textGeneration } from "../src/tasks/text-generation.js";
import { train } from "../src/train/trainer.js";
import { collect, openTinyModel, type TinyFamily, tableOf, tinyFamilies, tinyOptions, tinyRows } from "./tiny-model.fixture.js";

const rows = tableOf(tinyRows(16));
const head: TaskHead = { task: textClassification, target: textClassification.target(rows) };
const stored = BASE_DTYPES.filter((dtype) => dtype !== "f32");

/** How far logits and losses of tiny models may lie from those of float32, in root mean square; what the ops compute is tested exactly beside them. */
const nearness: Readonly<Record<Exclude<BaseDtype, "f32">, number>> = { f16: 2e-3, q8: 0.05, q4: 0.5, nf4: 0.6 };

const allFamilies = families.map(({ model_types }) => model_types[0] as TinyFamily);

let runtime: Runtime;
beforeAll(() => {
  runtime = nodeRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

const encode = (model: BaseModel): readonly Example[] =>
  rows.rows.map((_, i) => textClassification.encode(rows, i, head.target, model.tokenizer, 32));

async function logitsOf(model: BaseModel, adapter: Adapter, examples: readonly Example[]): Promise<Float32Array> {
  const ready = predictor(model, adapter);
  const logits = Float32Array.from((await ready.run(examples)).flatMap((row) => Array.from(row)));
  await ready.dispose();
  return logits;
}

const farthest = (a: Float32Array, b: Float32Array): number => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

const distanceOf = (a: Float32Array, b: Float32Array): number =>
  Math.sqrt(a.reduce((total, value, i) => total + (value - b[i]!) ** 2, 0) / a.length);

async function adapterOf(model: BaseModel, name: string, config: object = {}): Promise<Adapter> {
  const method = methods.find((each) => each.name === name)!;
  const attachment = attach(model, head, method, method.config.parse(config), "user");
  return { head, attachment, params: await initialParams(model, forwardGraph(model, head, [attachment]), 5) };
}

it("every dtype but f32 has a form", () => {
  expect(stored.map((dtype) => formOf(dtype)?.name)).toEqual(stored);
  expect(formOf("f32")).toBeUndefined();
});

describe.each(stored)("%s", (dtype) => {
  const tiny = async (family: TinyFamily): Promise<readonly [BaseModel, BaseModel]> => {
    const model = await openTinyModel(runtime, { family });
    return [model, withBaseDtype(model, head, dtype)];
  };

  // q8 is the form for speed, tried with all families and methods; of the others one family of each kind
  const kinds: readonly TinyFamily[] = dtype === "q8" ? allFamilies : ["bert", "gpt2", "llama"];
  describe.each(kinds)("on %s", (family) => {
    it("gives nearly the logits of float32, and not the same", async () => {
      const [exact, model] = await tiny(family);
      const examples = encode(model);
      const adapter = await adapterOf(model, "lora");
      const distance = distanceOf(await logitsOf(model, adapter, examples), await logitsOf(exact, adapter, examples));
      expect(distance).toBeLessThan(nearness[dtype]);
      expect(distance).toBeGreaterThan(1e-6);
    });

    it("reads no matrix of a layer in float32, forward or backward, and counts the same parameters", async () => {
      const [exact, model] = await tiny(family);
      const { attachment } = await adapterOf(model, "lora");
      const graph = trainGraph(model, head, [attachment], "off");
      const whole = topological(Object.values(graph)).flatMap(({ source, shape }) =>
        source.kind === "weight" && source.part === undefined && shape.length === 2 ? [source.path] : [],
      );
      expect(whole.filter((path) => !/embed|wte|wpe/.test(path))).toEqual([]);
      expect(countParameters(graph)).toEqual(countParameters(trainGraph(exact, head, [attachment], "off")));
    });
  });

  it("predicts a row the same alone and with others, but for the order of float32 sums in attention and what that rounds otherwise", async () => {
    const [, model] = await tiny("bert");
    const examples = encode(model);
    const adapter = await adapterOf(model, "lora");
    const all = await logitsOf(model, adapter, examples);
    for (const i of [0, 5, 11])
      expect(farthest(await logitsOf(model, adapter, [examples[i]!]), all.slice(3 * i, 3 * i + 3))).toBeLessThan(1e-3);
  });

  const tried = methods.filter(({ name }) => name !== "full" && (dtype === "q8" || name === "lora"));
  const cells = tried.flatMap(({ name }) =>
    name === "lora"
      ? [[name, {}] as const, [name, { use_dora: true }] as const, [name, { init_lora_weights: "pissa", r: 4 }] as const]
      : [[name, {}] as const],
  );
  it.each(cells.flatMap(([name, config]) => (["bert", "llama"] as const).map((family) => [name, config, family] as const)))(
    "learns with %s %j on %s, and the adapter works on float32 too",
    async (name, config, family) => {
      const [exact] = await tiny(family);
      const method = methods.find((each) => each.name === name)!;
      const loop = train({
        model: exact,
        task: textClassification,
        method,
        config: method.config.parse(config),
        rows,
        evalRows: rows,
        options: tinyOptions({ max_steps: 40, batch_size: 16, warmup_ratio: 0, learning_rate: 3e-2, base_dtype: dtype }),
        now: () => 0,
      });
      const { events, result } = await collect(loop);
      const losses = events.flatMap((event) => (event.event === "step" ? [event.loss] : []));
      expect(events.find((event) => event.event === "start")).toMatchObject({ base_dtype: dtype });
      expect(losses.at(-1)).toBeLessThan(0.9 * losses[0]!);
      const logits = await logitsOf(exact, result.adapter, encode(exact));
      const { loss } = textClassification.evaluate(
        encode(exact).map((_, i) => logits.subarray(3 * i, 3 * i + 3)),
        encode(exact),
        head.target,
      );
      expect(Math.abs(loss - result.loss!)).toBeLessThan(nearness[dtype]);
    },
  );

  it("is refused where all matrices are trained", async () => {
    const [model] = await tiny("bert");
    const method = methods.find(({ name }) => name === "full")!;
    const options = tinyOptions({ max_steps: 1, base_dtype: dtype });
    const loop = train({ model, task: textClassification, method, config: method.config.parse({}), rows, options, now: () => 0 });
    await expect(collect(loop)).rejects.toThrow(
      `base_dtype ${dtype} would store nothing: full trains all weights of linear layers, in float32`,
    );
  });
});

const noSites: Sites = {
  linears: [],
  tables: [],
  outputTables: [],
  sublayers: [],
  attentions: [],
  tokens: [],
  embeddings: [],
  weights: [],
  headModules: [],
};

describe("auto", () => {
  const picked = async (config: object, method = "lora"): Promise<unknown> => {
    const model = await openTinyModel(runtime, { config });
    const record = methods.find(({ name }) => name === method)!;
    const options = tinyOptions({ max_steps: 1, base_dtype: "auto" });
    const { events } = await collect(
      train({ model, task: textClassification, method: record, config: record.config.parse({}), rows, options, now: () => 0 }),
    );
    const start = events.find((event) => event.event === "start");
    return start?.event === "start" ? start.base_dtype : undefined;
  };

  it("leaves tiny models as they are, and stores larger ones as q8", async () => {
    expect(await picked({})).toBe("f32");
    expect(await picked({ intermediate_size: 32 * 1024 })).toBe("q8");
  });

  it("leaves language models as they are before they are large", () => {
    const site = (inFeatures: number): LinearSite => ({ path: "up", role: "up", inFeatures, outFeatures: 1e6, bias: false });
    const sites = (inFeatures: number): Sites => ({ ...noSites, linears: [site(inFeatures), { ...site(1e9), role: "head" }] });
    expect([2, 299, 300].map((size) => pickBaseDtype(sites(size), textGeneration))).toEqual(["f32", "f32", "q8"]);
    expect([0.5, 1].map((size) => pickBaseDtype(sites(size), textClassification))).toEqual(["f32", "q8"]);
  });

  it("stores nothing where all is trained", async () => {
    expect(await picked({ intermediate_size: 32 * 1024 }, "full")).toBe("f32");
  });
});

it.each([
  { dtype: "q8", layers: "q8-blocks", head: "q8-blocks" },
  { dtype: "q4", layers: "q4-blocks", head: "q8-blocks" },
  { dtype: "f32", layers: undefined, head: "output" },
] as const)("$dtype continues texts with forms of its own, that of the output matrix among them", async ({ dtype, layers, head }) => {
  for (const family of ["llama", "gpt2"] as const) {
    const model: BaseModel = { ...(await openTinyModel(runtime, { family })), baseDtype: dtype };
    const matrices = topological(Object.values(decodeGraph(model, withoutAdapter(model, textGeneration), []))).flatMap(
      ({ source, shape }) => (source.kind === "weight" && shape.length > 1 ? [source] : []),
    );
    const isTable = (path: string): boolean => /lm_head|embed|wte|wpe/.test(path);
    const formsOf = (tables: boolean): readonly (string | undefined)[] => [
      ...new Set(matrices.filter(({ path }) => isTable(path) === tables).map(({ part }) => part?.form)),
    ];
    expect(formsOf(false)).toEqual([layers]);
    expect(formsOf(true)).toContain(head);
  }
});

it("all tiny families are tried", () => {
  expect(Object.keys(tinyFamilies).sort()).toEqual([...allFamilies].sort());
});
