import { afterAll, describe, expect, it } from "vitest";
import { batchInputs } from "../core/batch.js";
import { input } from "../core/graph.js";
import { ModelError } from "../errors.js";
import { type At, reader, total } from "../ops/reference.fixture.js";
import { expectClose, randomTensor, runGraph, testRuntime } from "../ops/run-graph.fixture.js";
import { paramsOf } from "../programs/program.js";
import { ModelBuilder } from "./builder.js";
import type { ModelFamily } from "./family.js";
import { families } from "./index.js";
import { type LayeredHead, layeredHead } from "./layered-head.js";

const D = 4;
const rows = 3;
const runtime = testRuntime();
afterAll(() => runtime.close());
const bert = families.find(({ model_types }) => model_types.includes("bert"))!;
const config = bert.parse({
  model_type: "bert",
  vocab_size: 9,
  hidden_size: D,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  intermediate_size: 8,
});
const usual: LayeredHead = { layers: 2, activation: "tanh", bias: true, pooler: false, dropout: null };

/** The head's graph on [rows, D], all of its weights random. */
function built(fields: Partial<LayeredHead>, family: ModelFamily = bert, dropout?: (configured: number) => number) {
  const head = layeredHead(family, { ...usual, ...fields });
  const m = new ModelBuilder({ batch: batchInputs(true), has: () => false, headModules: head.modules, attachments: [], dropout });
  const logits = head.build(m, input("hidden", "float32", [rows, D]), 2, config);
  return { head, logits, params: paramsOf({ logits }).map(({ leaf, value }) => ({ path: leaf.path, shape: value.shape.map(Number) })) };
}

/** What the layers at these indices give for a row, the activation between them. */
function reference(
  param: (path: string) => At,
  indices: readonly number[],
  act: (x: number) => number,
  x: readonly number[],
): readonly number[] {
  return indices.reduce((row, index, i) => {
    const from = i === 0 ? row : row.map(act);
    const [W, b] = [param(`heads.${index}.weight`), param(`heads.${index}.bias`)];
    const out = i === indices.length - 1 ? 2 : D;
    return Array.from({ length: out }, (_, o) => total(D, (j) => W(o, j) * from[j]!) + b(o));
  }, x);
}

describe("a head of layers", () => {
  it.each<[fields: Partial<LayeredHead>, indices: readonly number[], act: (x: number) => number]>([
    [{ layers: 1 }, [1], Math.tanh],
    [{ layers: 2 }, [1, 4], Math.tanh],
    [{ layers: 3, activation: "relu" }, [1, 4, 7], (x) => Math.max(x, 0)],
    [{ layers: 3, activation: null }, [1, 3, 5], (x) => x],
    [{ layers: 2, activation: "leakyrelu" }, [1, 4], (x) => (x < 0 ? 0.01 * x : x)],
  ])("%j stands at torch's indices %j", async (fields, indices, act) => {
    const { logits, params, head } = built(fields);
    expect(params.map(({ path }) => path)).toEqual(indices.flatMap((i) => [`heads.${i}.weight`, `heads.${i}.bias`]));
    expect(head.output).toBe(`heads.${indices.at(-1)}.weight`);
    const values = Object.fromEntries(params.map(({ path, shape }) => [`param:${path}`, randomTensor(shape, path)]));
    const hidden = randomTensor([rows, D], "hidden");
    const results = await runGraph(runtime, { logits }, { ...values, hidden });
    const [at, param] = [reader(hidden), (path: string): At => reader(values[`param:${path}`]!)];
    const expected = Array.from({ length: rows }, (_, t) =>
      reference(
        param,
        indices,
        act,
        Array.from({ length: D }, (_, j) => at(t, j)),
      ),
    );
    expectClose(results.logits, { shape: [rows, 2], data: expected.flat() });
  });

  it("without bias has none on its last layer only", () => {
    expect(built({ bias: false }).params.map(({ path }) => path)).toEqual(["heads.1.weight", "heads.1.bias", "heads.4.weight"]);
  });

  it("drops what enters each layer, at its own rate or the model's", () => {
    const rates = (dropout: number | null): readonly number[] => {
      const seen: number[] = [];
      built({ dropout }, bert, (configured) => {
        seen.push(configured);
        return 0;
      });
      return seen;
    };
    expect(rates(0.4)).toEqual([0.4, 0.4]);
    expect(rates(null)).toEqual([bert.headDropout(config), bert.headDropout(config)]);
  });

  it("reads the model's pooler where it asks for it, and is refused where there is none", () => {
    const { pool: _, ...without } = bert;
    expect(() => built({ pooler: true }, without)).toThrow(ModelError);
    expect(() => built({ pooler: true }, without)).toThrow("the adapter's head reads a pooler, which bert models do not have");
    const m = new ModelBuilder({ batch: batchInputs(true), has: () => true, headModules: [], attachments: [] });
    layeredHead(bert, { ...usual, pooler: true }).build(m, input("hidden", "float32", [rows, D]), 2, config);
    expect(m.sites().linears.map(({ path }) => path)).toEqual(["bert.pooler.dense", "heads.1", "heads.4"]);
  });

  it("refuses an activation that nobody knows", () => {
    expect(() => built({ activation: "swoosh" })).toThrow(/swoosh/);
  });
});
