import { afterAll, describe, expect, it } from "vitest";
import { type At, reader, tabulate, total } from "../ops/reference.fixture.js";
import { expectClose, randomTensor, testRuntime } from "../ops/run-graph.fixture.js";
import { prefixTuning } from "./prefix-tuning.js";
import { type PromptRun, runAttention } from "./prompt-methods.fixture.js";

const N = 3;
const runtime = testRuntime();
afterAll(() => runtime.close());
const run = (fields: object = {}, origin?: "user" | "file"): Promise<PromptRun> =>
  runAttention(runtime, prefixTuning, { num_virtual_tokens: N, ...fields }, origin);

/** Attention in layer 1 of two tokens over themselves and N prefixes, two heads of size 2; `prefix(n, i)` are all layers' keys and values. */
function attended(prefix: At): At {
  const [q, k, v] = ["q", "k", "v"].map((name) => reader(randomTensor([2, 4], name))) as [At, At, At];
  // a layer's keys, then its values, 4 each, after those of layer 0
  const key = (n: number, i: number): number => (n < N ? prefix(n, 8 + i) : k(n - N, i));
  const value = (n: number, i: number): number => (n < N ? prefix(n, 12 + i) : v(n - N, i));
  return (t, i) => {
    const head = Math.floor(i! / 2);
    const weights = Array.from({ length: N + 2 }, (_, n) =>
      Math.exp(total(2, (d) => q(t!, 2 * head + d) * key(n, 2 * head + d)) / Math.sqrt(2)),
    );
    const sum = weights.reduce((a, b) => a + b, 0);
    return total(N + 2, (n) => (weights[n]! / sum) * value(n, i!));
  };
}

describe("prefix tuning", () => {
  it("puts its keys and values in front of each layer's own", async () => {
    const { output, shapes, param, published } = await run();
    expect(shapes).toEqual({ prompt_embeddings: [N, 2 * 2 * 4] });
    expectClose(output, tabulate([2, 4], attended(param("prompt_embeddings"))));
    expect(published).toEqual([]);
  });

  it("computes them by a network with prefix_projection, whose result is published", async () => {
    const { output, shapes, param, published } = await run({ prefix_projection: true, encoder_hidden_size: 5 });
    expect(shapes).toEqual({
      "prompt_encoder.embedding.weight": [N, 4],
      "prompt_encoder.transform.0.weight": [5, 4],
      "prompt_encoder.transform.0.bias": [5],
      "prompt_encoder.transform.2.weight": [16, 5],
      "prompt_encoder.transform.2.bias": [16],
    });
    const [E, W0, b0, W2, b2] = [
      "embedding.weight",
      "transform.0.weight",
      "transform.0.bias",
      "transform.2.weight",
      "transform.2.bias",
    ].map((name) => param(`prompt_encoder.${name}`)) as [At, At, At, At, At];
    const prefix: At = (n, i) => total(5, (h) => W2(i!, h) * Math.tanh(total(4, (d) => W0(h, d) * E(n!, d)) + b0(h))) + b2(i!);
    expectClose(output, tabulate([2, 4], attended(prefix)));
    expect(published).toEqual(["prompt_embeddings"]);
  });

  it("reads from a file what the network gave", async () => {
    const { shapes } = await run({ prefix_projection: true }, "file");
    expect(shapes).toEqual({ prompt_embeddings: [N, 16] });
  });
});
