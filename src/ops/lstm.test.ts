import { afterAll, expect, it } from "vitest";
import { input, type Value } from "../core/graph.js";
import type { Tensor } from "../core/tensor.js";
import { bidirectionalLstm, type LstmWeights } from "./lstm.js";
import { expectClose, expectGradient, gradcheck, randomTensor, runGraph, testRuntime } from "./run-graph.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const [N, D, H] = [4, 3, 2];
const weights = (way: string): Record<string, Tensor<"float32">> => ({
  [`${way}Input`]: randomTensor([4 * H, D], `${way} input`),
  [`${way}Recurrent`]: randomTensor([4 * H, H], `${way} recurrent`),
  [`${way}InputBias`]: randomTensor([4 * H], `${way} input bias`),
  [`${way}RecurrentBias`]: randomTensor([4 * H], `${way} recurrent bias`),
});
const inputs: Record<string, Tensor<"float32">> = { x: randomTensor([N, D], "x", -2, 2), ...weights("ahead"), ...weights("back") };

function build(values: Readonly<Record<string, Value>>): Value {
  const direction = (way: string): LstmWeights => ({
    input: values[`${way}Input`]!,
    recurrent: values[`${way}Recurrent`]!,
    inputBias: values[`${way}InputBias`]!,
    recurrentBias: values[`${way}RecurrentBias`]!,
  });
  return bidirectionalLstm(values.x!, direction("ahead"), direction("back"));
}

/** torch's nn.LSTM, one direction, in plain JavaScript: the hidden state at each row. */
function plain(way: string, order: readonly number[]): ReadonlyMap<number, readonly number[]> {
  const data = (name: string): Float32Array => inputs[`${way}${name}`]!.data;
  const sigmoid = (z: number): number => 1 / (1 + Math.exp(-z));
  let h = new Array<number>(H).fill(0);
  let c = new Array<number>(H).fill(0);
  const states = new Map<number, readonly number[]>();
  for (const row of order) {
    const gates = Array.from({ length: 4 * H }, (_, g) => {
      let z = data("InputBias")[g]! + data("RecurrentBias")[g]!;
      for (let d = 0; d < D; d++) z += data("Input")[g * D + d]! * inputs.x!.data[row * D + d]!;
      for (let k = 0; k < H; k++) z += data("Recurrent")[g * H + k]! * h[k]!;
      return z;
    });
    c = c.map((cell, k) => sigmoid(gates[H + k]!) * cell + sigmoid(gates[k]!) * Math.tanh(gates[2 * H + k]!));
    h = c.map((cell, k) => sigmoid(gates[3 * H + k]!) * Math.tanh(cell));
    states.set(row, h);
  }
  return states;
}

it("gives what a plain LSTM gives in both directions", async () => {
  const values = Object.fromEntries(Object.entries(inputs).map(([name, { dtype, shape }]) => [name, input(name, dtype, shape)]));
  const { y } = await runGraph(runtime, { y: build(values) }, inputs);
  const order = Array.from({ length: N }, (_, i) => i);
  const [ahead, back] = [plain("ahead", order), plain("back", [...order].reverse())];
  expectClose(y, { shape: [N, 2 * H], data: order.flatMap((row) => [...ahead.get(row)!, ...back.get(row)!]) });
});

it("has the right gradient by its input and all weights", async () => {
  expect(Object.keys(inputs)).toHaveLength(9);
  expectGradient(await gradcheck(runtime, { inputs, build }));
});
