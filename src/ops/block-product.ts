import type { Emitter } from "../core/graph.js";
import { f32, i64, type Tensor } from "../core/tensor.js";
import { packCodes } from "./four-bits.js";

/** Numbers of a row that `MatMulNBits` rounds together. */
const block = 32;

/** The identity matrix of a block in 4 and in 8 bits: codes of which the middle one stands for 0, and steps of 1. */
const identities: Readonly<Record<4 | 8, readonly [codes: Tensor, steps: Tensor]>> = { 4: identity(4), 8: identity(8) };

function identity(bits: 4 | 8): readonly [codes: Tensor, steps: Tensor] {
  const middle = 2 ** (bits - 1);
  const codes = Uint8Array.from({ length: block * block }, (_, i) => (i % (block + 1) === 0 ? middle + 1 : middle));
  const data = bits === 8 ? codes : packCodes(codes, "low");
  return [{ dtype: "uint8", shape: [block, 1, (block * bits) / 8], data }, f32(new Float32Array(block).fill(1), [block, 1])];
}

/** Which `MatMulNBits` of a matrix [N, K] in blocks of 32. */
interface BlockProduct {
  readonly K: number;
  readonly N: number;
  readonly bits: 4 | 8;
}

/**
 * Writes nodes that multiply rows x [T, K] by a matrix in blocks, given by the inputs of `MatMulNBits` behind the rows: [T, N]. The node rounds each block of
 * a row to 8 bits. So x stands in one product as two parts, what the node leaves of it (its product of each block with the identity) and what it
 * would lose, and the results are added up: that has 15 bits of x and reads the matrix once. Where a kernel does not round, the parts
 * still add up to x. Rows that are no whole number of blocks are rounded to 8 bits.
 */
export function blockProduct(e: Emitter, x: string, matrix: readonly string[], { K, N, bits }: BlockProduct): string {
  const product = (rows: string, parts: readonly string[], sizes: { readonly N: number; readonly K: number }): string =>
    e.node("MatMulNBits", [rows, ...parts], { ...sizes, bits, block_size: block, accuracy_level: 4 }, { domain: "com.microsoft" })[0]!;
  if (K % block !== 0) return product(x, matrix, { N, K });
  const [blocks] = e.node("Reshape", [x, e.constant(i64([-1, block]))]);
  const rounded = product(
    blocks!,
    identities[bits].map((part) => e.constant(part)),
    { N: block, K: block },
  );
  const [first] = e.node("Reshape", [rounded, e.constant(i64([-1, K]))]);
  const [rest] = e.node("Sub", [x, first!]);
  const [both] = e.node("Concat", [first!, rest!], { axis: 0 });
  const [halves] = e.node("Reshape", [product(both!, matrix, { N, K }), e.constant(i64([2, -1, N]))]);
  return e.node("ReduceSum", [halves!, e.constant(i64([0]))], { keepdims: 0 })[0]!;
}
