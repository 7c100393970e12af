import { afterAll, describe, expect, it } from "vitest";
import { expectClose, testRuntime } from "../ops/run-graph.fixture.js";
import { bottleneck } from "./bottleneck.js";
import { coupling } from "./invertible.js";
import { type AdapterRun, affine, attachmentOn, layerSites, matrix, plus, type Row, rowsNamed, runEmbedding } from "./sublayer.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());
const fields = { reduction_factor: 2, non_linearity: "tanh", inv_adapter: "nice", inv_adapter_reduction_factor: 1.5 };

const run = (D: number, more: object = {}): Promise<AdapterRun> => {
  const sites = layerSites(1, D);
  return runEmbedding(runtime, sites, attachmentOn(sites, bottleneck, { ...fields, ...more }));
};

describe("an invertible adapter", () => {
  it.each([4, 5])("adds F of the second half to the first, then G of the sum to the second: width %i", async (D) => {
    const half = Math.floor(D / 2);
    const result = await run(D);
    const network = (name: string, x: Row, out: number): Row => {
      const inner = affine(result, `bert.invertible_adapters.${name}.0`, Math.floor(x.length / 1.5), x).map(Math.tanh);
      return affine(result, `bert.invertible_adapters.${name}.2`, out, inner);
    };
    const expected = rowsNamed("embeddings", D).map((x) => {
      const [x1, x2] = [x.slice(0, half), x.slice(half)];
      const y1 = plus(x1, network("F", x2, half));
      return [...y1, ...plus(x2, network("G", y1, D - half))];
    });
    expectClose(result.output, matrix(expected));
  });

  it("has AdapterHub's parameters, the second half the wider one", async () => {
    const { shapes, leaves } = await run(5);
    expect(shapes).toEqual({
      "bert.invertible_adapters.F.0.weight": [2, 3],
      "bert.invertible_adapters.F.0.bias": [2],
      "bert.invertible_adapters.F.2.weight": [2, 2],
      "bert.invertible_adapters.F.2.bias": [2],
      "bert.invertible_adapters.G.0.weight": [1, 2],
      "bert.invertible_adapters.G.0.bias": [1],
      "bert.invertible_adapters.G.2.weight": [3, 1],
      "bert.invertible_adapters.G.2.bias": [3],
    });
    for (const { path, init } of leaves)
      expect(init, path).toEqual(path.endsWith("weight") ? { kind: "normal", mean: 0, std: 0.02 } : { kind: "constant", value: 0 });
  });

  it("is not there unless asked for", async () => {
    const { output, shapes } = await run(4, { inv_adapter: null });
    expect(shapes).toEqual({});
    expectClose(output, matrix(rowsNamed("embeddings", 4)), 0);
  });

  it("is undone by its inverse", async () => {
    const andBack: typeof bottleneck = { ...bottleneck, embedding: (_, h, p, __, c) => coupling(p, c, coupling(p, c, h), true) };
    const sites = layerSites(1, 5);
    const { output, leaves } = await runEmbedding(runtime, sites, attachmentOn(sites, andBack, fields));
    expect(leaves).toHaveLength(8);
    expectClose(output, matrix(rowsNamed("embeddings", 5)));
  });
});
