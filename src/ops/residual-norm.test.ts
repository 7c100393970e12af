import { afterAll, describe, expect, it } from "vitest";
import { apply, constant, input, topological, type Value } from "../core/graph.js";
import { f32 } from "../core/tensor.js";
import { add, mul, tanh } from "./elementwise.js";
import { layerNorm, rmsNorm, rmsNormOp } from "./norm.js";
import { residualNormOp, withResidualNorms } from "./residual-norm.js";
import { expectClose, randomTensor, runGraph, testRuntime } from "./run-graph.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const feeds = { a: randomTensor([3, 4], "a"), b: randomTensor([3, 4], "b"), row: randomTensor([1, 4], "row") };
const [a, b, row] = [input("a", "float32", ["T", 4]), input("b", "float32", ["T", 4]), input("row", "float32", [1, 4])];
const [weight, bias] = [constant(f32([1, 2, 0.5, -1])), constant(f32([0, 1, 2, 3]))];

const fusedIn = (outputs: Readonly<Record<string, Value>>): number =>
  new Set(
    topological(Object.values(outputs)).flatMap(({ source }) => (source.kind === "op" && source.op === residualNormOp ? [source] : [])),
  ).size;

const sum = add(a, tanh(b));
const second = add(sum, mul(rmsNorm(sum, weight, 1e-3), a)); // the sum goes on beside its norm, as in a decoder's layer

describe("sums with the norms that follow them", () => {
  it.each([
    { what: "one after the other", graph: { y: layerNorm(second, weight, bias, 1e-3), sum }, nodes: 2 },
    { what: "where the backward pass's result is read", graph: { y: apply(rmsNormOp, [sum, weight], { eps: 1e-3 })[1]! }, nodes: 0 },
    { what: "where a row is added to all", graph: { y: rmsNorm(add(a, row), weight, 1e-3) }, nodes: 0 },
    { what: "where the weight is computed", graph: { y: rmsNorm(sum, tanh(weight), 1e-3) }, nodes: 0 },
  ])("$what: $nodes nodes, and the same results", async ({ graph, nodes }) => {
    const fused = withResidualNorms(graph);
    expect(fusedIn(fused)).toBe(nodes);
    const [expected, got] = [await runGraph(runtime, graph, feeds), await runGraph(runtime, fused, feeds)];
    for (const [name, value] of Object.entries(expected))
      expectClose(got[name], { shape: value.shape, data: value.data as Float32Array }, 1e-6);
  });
});
