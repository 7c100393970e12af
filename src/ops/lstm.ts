import { constant, type Value } from "../core/graph.js";
import { f32 } from "../core/tensor.js";
import { add, mul, sigmoid, tanh } from "./elementwise.js";
import { linear } from "./linear.js";
import { concat, reshape, slice } from "./movement.js";

/** One direction's weights, in torch's layout: gates input, forget, cell, output one below the other. */
export interface LstmWeights {
  /** [4H, D] */
  readonly input: Value;
  /** [4H, H] */
  readonly recurrent: Value;
  /** [4H] */
  readonly inputBias: Value;
  /** [4H] */
  readonly recurrentBias: Value;
}

/** A bidirectional LSTM over the rows of x [N, D] → [N, 2H], unrolled (Hochreiter & Schmidhuber 1997; torch's nn.LSTM). N is a number. */
export function bidirectionalLstm(x: Value, forward: LstmWeights, backward: LstmWeights): Value {
  const rows = Number(x.shape[0]);
  const order = Array.from({ length: rows }, (_, i) => i);
  const ahead = direction(x, forward, order);
  const back = direction(x, backward, [...order].reverse()).reverse();
  return concat([concat(ahead, 0), concat(back, 0)], 1);
}

/** The hidden states [1, H] in the order in which the rows are visited. */
function direction(x: Value, { input, recurrent, inputBias, recurrentBias }: LstmWeights, order: readonly number[]): Value[] {
  const hidden = Number(recurrent.shape[1]);
  const gates = linear(x, input, inputBias);
  let h: Value = constant(f32(new Float32Array(hidden), [1, hidden]));
  let c: Value = h;
  return order.map((row) => {
    const all = add(slice(gates, 0, row, row + 1), linear(h, recurrent, recurrentBias));
    const gate = (i: number): Value => reshape(slice(all, 1, i * hidden, (i + 1) * hidden), [1, hidden]);
    c = add(mul(sigmoid(gate(1)), c), mul(sigmoid(gate(0)), tanh(gate(2))));
    h = mul(sigmoid(gate(3)), tanh(c));
    return h;
  });
}
