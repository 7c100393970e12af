import { apply, apply1, type OpDef, type TensorType, topological, type Value } from "../core/graph.js";
import { f32, i64, type Tensor } from "../core/tensor.js";
import { packCodes } from "./four-bits.js";
import { sameShape, shapeError } from "./shapes.js";

/** Numbers of a row of activations that are rounded together, and numbers of a matrix that share a step. */
export const blockSize = 32;

/** Bits of a code. */
type Bits = 4 | 8;

/** The identity matrix of a block: codes of which the middle one stands for 0, and steps of 1. */
const identities: Readonly<Record<Bits, readonly [codes: Tensor, steps: Tensor]>> = { 4: identity(4), 8: identity(8) };

function identity(bits: Bits): readonly [codes: Tensor, steps: Tensor] {
  const middle = 2 ** (bits - 1);
  const codes = Uint8Array.from({ length: blockSize ** 2 }, (_, i) => (i % (blockSize + 1) === 0 ? middle + 1 : middle));
  const data = bits === 8 ? codes : packCodes(codes, "low");
  return [
    { dtype: "uint8", shape: [blockSize, 1, (blockSize * bits) / 8], data },
    f32(new Float32Array(blockSize).fill(1), [blockSize, 1]),
  ];
}

const attributes = (bits: Bits, K: number, N: number): Readonly<Record<string, number>> => ({
  N,
  K,
  bits,
  block_size: blockSize,
  accuracy_level: 4,
});

/**
 * Rows x [T, K] in two parts that add up to x, [2, T, K], K a multiple of 32: what `MatMulNBits` of so many bits leaves of them when it rounds each block
 * to 8 bits, which is its product of each block with the identity, and what it would lose.
 */
export const rowPartsOp: OpDef<{ readonly bits: Bits }> = {
  name: "row_parts",
  infer: (inputs) => {
    const [x] = inputs;
    if (inputs.length !== 1 || x!.dtype !== "float32" || x!.shape.length !== 2 || Number(x!.shape[1]) % blockSize !== 0)
      throw shapeError("row_parts", inputs, `float32 [T, K] with K a multiple of ${blockSize}`);
    return [{ dtype: "float32", shape: [2, x!.shape[0]!, x!.shape[1]!] }];
  },
  vjp: "unsupported",
  emit: (e, [x], { bits }, [type]) => {
    const [blocks] = e.node("Reshape", [x!, e.constant(i64([-1, blockSize]))]);
    const matrix = identities[bits].map((part) => e.constant(part));
    const domain = { domain: "com.microsoft" } as const;
    const [rounded] = e.node("MatMulNBits", [blocks!, ...matrix], attributes(bits, blockSize, blockSize), domain);
    const [first] = e.node("Reshape", [rounded!, e.constant(i64([1, -1, Number(type!.shape[2])]))]);
    const [rest] = e.node("Sub", [x!, first!]);
    return e.node("Concat", [first!, rest!], { axis: 0 });
  },
};

interface BlockProductAttrs {
  readonly bits: Bits;
  readonly K: number;
  readonly N: number;
  /** Whether the rows come in two parts. */
  readonly inParts: boolean;
}

/**
 * x·W, with x [T, K] rounded to 8 bits by blocks of a row's numbers, or in two parts [2, T, K]; W [K, N] in blocks along K, as codes uint8
 * [N, blocks, 4 · bits] and steps [N, blocks], and with 8 bits zeros uint8 [N, blocks], else the middle code is 0. The fastest for few rows where the
 * matrix's tensors are initialisers.
 */
export const blockProductOp: OpDef<BlockProductAttrs> = {
  name: "block_product",
  infer: (inputs, { bits, K, N, inParts }) => {
    const types = blockTypes(bits, K, N);
    const wanted = bits === 8 ? [types.codes, types.steps, types.zeros] : [types.codes, types.steps];
    const [x, ...matrix] = inputs;
    const fits =
      x?.dtype === "float32" &&
      x.shape.length === (inParts ? 3 : 2) &&
      x.shape.at(-1) === K &&
      (!inParts || x.shape[0] === 2) &&
      matrix.length === wanted.length &&
      matrix.every(({ dtype, shape }, i) => dtype === wanted[i]!.dtype && sameShape(shape, wanted[i]!.shape));
    if (!fits)
      throw shapeError(
        "block_product",
        inputs,
        [`float32[${inParts ? "2,T" : "T"},${K}]`, ...wanted.map(({ dtype, shape }) => `${dtype}[${shape}]`)].join(", "),
      );
    return [{ dtype: "float32", shape: [x.shape.at(-2)!, N] }];
  },
  vjp: "unsupported",
  emit: (e, inputs, { bits, K, N, inParts }) => {
    const [product] = e.node("MatMulNBits", inputs, attributes(bits, K, N), { domain: "com.microsoft" });
    return inParts ? e.node("ReduceSum", [product!, e.constant(i64([0]))], { keepdims: 0 }) : [product!];
  },
};

/** The tensors that hold W [K, N] in blocks. */
export function blockTypes(bits: Bits, K: number, N: number): Readonly<Record<"codes" | "steps" | "zeros", TensorType>> {
  const blocks = Math.ceil(K / blockSize);
  return {
    codes: { dtype: "uint8", shape: [N, blocks, (blockSize * bits) / 8] },
    steps: { dtype: "float32", shape: [N, blocks] },
    zeros: { dtype: "uint8", shape: [N, blocks] },
  };
}

/**
 * x·W: x [T, K], and W [K, N] in blocks → [T, N]. x is taken in two parts, which keeps 15 bits of it and reads W once; where rows are no whole number of
 * blocks it is rounded to 8 bits.
 */
export function blockProduct(x: Value, matrix: readonly Value[], { bits, N }: { readonly bits: Bits; readonly N: number }): Value {
  const K = Number(x.shape[1]);
  const inParts = K % blockSize === 0;
  return apply1(blockProductOp, [inParts ? apply1(rowPartsOp, [x], { bits }) : x, ...matrix], { bits, K, N, inParts });
}

/** The same graph with the parts of each value's rows computed once, for all products that read them. */
export function withSharedParts(outputs: Readonly<Record<string, Value>>): Readonly<Record<string, Value>> {
  const parts = new Map<Value, Map<Bits, Value>>();
  const replaced = new Map<Value, Value>();
  const now = (value: Value): Value => replaced.get(value) ?? value;
  for (const value of topological(Object.values(outputs))) {
    const { source } = value;
    if (source.kind !== "op" || replaced.has(value)) continue;
    const inputs = source.inputs.map(now);
    const changed = inputs.some((input, i) => input !== source.inputs[i]);
    const twins = changed ? apply(source.op, inputs, source.attrs) : source.outputs;
    for (const [i, twin] of twins.entries()) if (changed) replaced.set(source.outputs[i]!, twin);
    if (source.op !== rowPartsOp) continue;
    const { bits } = source.attrs as { readonly bits: Bits };
    const known = parts.get(inputs[0]!) ?? new Map<Bits, Value>();
    parts.set(inputs[0]!, known.set(bits, known.get(bits) ?? twins[0]!));
    replaced.set(value, known.get(bits)!);
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, now(value)]));
}
