import { afterAll, expect, it } from "vitest";
import { input, topological, type Value } from "../core/graph.js";
import { add, mul, sigmoid, tanh } from "./elementwise.js";
import { gradient } from "./gradient.js";
import { gemm } from "./linear.js";
import { reshape } from "./movement.js";
import { afterOp, kept, recomputed } from "./recompute.js";
import { sum } from "./reduce.js";
import { expectClose, randomTensor, runGraph, testRuntime } from "./run-graph.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const weights = [0, 1, 2, 3].map((i) => input(`w${i}`, "float32", [3, 3]));
const x = input("x", "float32", ["T", 3]);

/** Four layers, each of which reads what stands beside them all and the input of the layer before; then a head that reads the first layer too. */
function model(): { readonly loss: Value; readonly inputs: readonly Value[] } {
  const shared = sigmoid(x);
  const inputs: Value[] = [];
  let h = x;
  for (const weight of weights) {
    inputs.push(h);
    const before = inputs.at(-2) ?? shared;
    h = add(h, mul(tanh(gemm(h, weight)), add(shared, tanh(before))));
  }
  const squares = mul(h, tanh(inputs[1]!));
  return { loss: reshape(sum(mul(squares, squares), [0, 1]), []), inputs };
}

it("gives the gradients that are had without", async () => {
  const { loss, inputs } = model();
  const wrt = [x, ...weights];
  const feeds = Object.fromEntries([["x", randomTensor([5, 3], "x")], ...weights.map((_, i) => [`w${i}`, randomTensor([3, 3], `w${i}`)])]);
  const run = async (grads: readonly Value[]) => runGraph(runtime, Object.fromEntries(grads.map((grad, i) => [`g${i}`, grad])), feeds);
  const [once, twice] = [await run(gradient(loss, wrt, kept)), await run(gradient(loss, wrt, recomputed(loss, inputs)))];
  for (const [name, { shape, data }] of Object.entries(once)) expectClose(twice[name], { shape, data: Array.from(data, Number) });
});

it("computes all layers but the last again, each after the gradient by its output, and only those on the way to what is trained", () => {
  const { loss, inputs } = model();
  const seconds = (wrt: readonly Value[]): readonly Value[] =>
    topological(gradient(loss, wrt, recomputed(loss, inputs))).flatMap(({ source }) =>
      source.kind === "op" && source.op === afterOp ? [source.inputs[0]!] : [],
    );
  expect(new Set(seconds([x, ...weights]))).toEqual(new Set(inputs.slice(0, 3)));
  expect(new Set(seconds(weights.slice(2)))).toEqual(new Set(inputs.slice(2, 3)));
  expect(seconds([weights[3]!])).toEqual([]);
  expect(topological(gradient(loss, weights)).some(({ source }) => source.kind === "op" && source.op === afterOp)).toBe(false);
});
