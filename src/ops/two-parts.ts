import type { Emitter } from "../core/graph.js";
import { f32, i64 } from "../core/tensor.js";

/** Numbers of a row that `MatMulNBits` rounds together. */
const block = 32;

/**
 * Writes nodes that put rows x [T, K] before what `MatMulNBits` loses of them when it rounds blocks of 32 numbers to 8 bits: [2T, K], K a multiple
 * of 32. The node's own rounding shows in its product of each block with the identity. A product of both parts, added up, has 15 bits of x
 * and reads the matrix once.
 */
export function twoParts(e: Emitter, x: string, K: number): string {
  const codes = new Uint8Array(block * block).fill(128);
  for (let i = 0; i < block; i++) codes[i * (block + 1)] = 129;
  const identity = e.constant({ dtype: "uint8", shape: [block, 1, block], data: codes });
  const ones = e.constant(f32(new Float32Array(block).fill(1), [block, 1]));
  const [blocks] = e.node("Reshape", [x, e.constant(i64([-1, block]))]);
  const attributes = { N: block, K: block, bits: 8, block_size: block, accuracy_level: 4 };
  const [rounded] = e.node("MatMulNBits", [blocks!, identity, ones], attributes, { domain: "com.microsoft" });
  const [first] = e.node("Reshape", [rounded!, e.constant(i64([-1, K]))]);
  const [rest] = e.node("Sub", [x, first!]);
  return e.node("Concat", [x, rest!], { axis: 0 })[0]!;
}

/** Writes nodes that add the two halves of y [2T, N] up: [T, N]. */
export function halvesAdded(e: Emitter, y: string, N: number): string {
  const [halves] = e.node("Reshape", [y, e.constant(i64([2, -1, N]))]);
  return e.node("ReduceSum", [halves!, e.constant(i64([0]))], { keepdims: 0 })[0]!;
}
