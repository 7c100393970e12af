import { afterAll, describe, expect, it } from "vitest";
import { type At, tabulate, total } from "../ops/reference.fixture.js";
import { expectClose, testRuntime } from "../ops/run-graph.fixture.js";
import { pTuning } from "./p-tuning.js";
import { type PromptRun, runTokens } from "./prompt-methods.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

type Row = readonly number[];
const rowOf = (at: At, i: number, length: number): Row => Array.from({ length }, (_, j) => at(i, j));
/** W·x + b by the parameters `prompt_encoder.name`. */
const layer = ({ param, shapes }: PromptRun, name: string, x: Row): Row => {
  const [W, b] = [param(`prompt_encoder.${name}.weight`), param(`prompt_encoder.${name}.bias`)];
  const [out] = shapes[`prompt_encoder.${name}.weight`]!;
  return Array.from({ length: out! }, (_, o) => total(x.length, (j) => W(o, j) * x[j]!) + b(o));
};
const relu = (x: Row): Row => x.map((value) => Math.max(value, 0));

describe("p-tuning", () => {
  it("computes the virtual tokens by three linear layers with ReLUs between", async () => {
    const run = await runTokens(runtime, pTuning, { encoder_hidden_size: 3 });
    expect(run.shapes).toEqual({
      "prompt_encoder.embedding.weight": [2, 4],
      "prompt_encoder.mlp_head.0.weight": [3, 4],
      "prompt_encoder.mlp_head.0.bias": [3],
      "prompt_encoder.mlp_head.2.weight": [3, 3],
      "prompt_encoder.mlp_head.2.bias": [3],
      "prompt_encoder.mlp_head.4.weight": [4, 3],
      "prompt_encoder.mlp_head.4.bias": [4],
    });
    const rows = [0, 1].map((i) => {
      const embedding = rowOf(run.param("prompt_encoder.embedding.weight"), i, 4);
      return layer(run, "mlp_head.4", relu(layer(run, "mlp_head.2", relu(layer(run, "mlp_head.0", embedding)))));
    });
    expectClose(run.output, { shape: [2, 4], data: rows.flat() });
    expect(run.published).toEqual(["prompt_embeddings"]);
  });

  it("has an LSTM of as many layers instead, each of which reads both directions of the one before", async () => {
    const { shapes, published } = await runTokens(runtime, pTuning, {
      encoder_reparameterization_type: "LSTM",
      encoder_hidden_size: 3,
      encoder_num_layers: 2,
    });
    const lstm = "prompt_encoder.lstm_head";
    for (const way of ["", "_reverse"]) {
      expect(shapes[`${lstm}.weight_ih_l0${way}`]).toEqual([12, 4]);
      expect(shapes[`${lstm}.weight_hh_l0${way}`]).toEqual([12, 3]);
      expect(shapes[`${lstm}.weight_ih_l1${way}`]).toEqual([12, 6]);
      expect(shapes[`${lstm}.bias_hh_l1${way}`]).toEqual([12]);
    }
    expect(shapes["prompt_encoder.mlp_head.0.weight"]).toEqual([6, 6]);
    expect(shapes["prompt_encoder.mlp_head.2.weight"]).toEqual([4, 6]);
    expect(Object.keys(shapes)).toHaveLength(1 + 16 + 4);
    expect(published).toEqual(["prompt_embeddings"]);
  });

  it("is as wide as the model where nothing is said", async () => {
    const { shapes } = await runTokens(runtime, pTuning, {});
    expect(shapes["prompt_encoder.mlp_head.2.weight"]).toEqual([4, 4]);
  });

  it("reads from a file what the network gave", async () => {
    const { output, shapes, param } = await runTokens(runtime, pTuning, { encoder_hidden_size: 3 }, "file");
    expect(shapes).toEqual({ prompt_embeddings: [2, 4] });
    expectClose(output, tabulate([2, 4], param("prompt_embeddings")), 0);
  });

  it.each([{ encoder_reparameterization_type: "GRU" }, { encoder_num_layers: 0 }, { encoder_dropout: 1 }, { encoder_hidden_size: 0 }])(
    "refuses %j",
    (fields) => {
      expect(pTuning.config.safeParse(fields).error?.issues.map(({ path }) => path)).toEqual([Object.keys(fields)]);
    },
  );
});
