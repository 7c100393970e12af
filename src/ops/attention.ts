import type { BatchInputs } from "../core/batch.js";
import { apply1, type OpDef, type Value } from "../core/graph.js";
import { f32, i64 } from "../core/tensor.js";
import { add, mul } from "./elementwise.js";
import { matmul } from "./linear.js";
import { gather, reshape, transpose } from "./movement.js";
import { softmax } from "./reduce.js";
import { sameShape, shapeError } from "./shapes.js";

/**
 * Packed rows to padded places: x [T, D], padIndex [P], tokenIndex [T] → [P, D]. Its backward pass reads each token's own place back, which
 * is exact because attention gives padding no gradient (masked as keys, dropped as queries by `unpadRows`).
 */
export const padRowsOp: OpDef<null> = {
  name: "pad_rows",
  infer: (inputs) => {
    const [x, padIndex, tokenIndex] = inputs;
    if (inputs.length !== 3 || x!.shape.length !== 2 || !sameShape(tokenIndex!.shape, [x!.shape[0]!])) {
      throw shapeError("pad_rows", inputs, "x [T, D], padIndex [P] and tokenIndex [T]");
    }
    return [{ dtype: x!.dtype, shape: [padIndex!.shape[0]!, x!.shape[1]!] }];
  },
  vjp: ({ inputs: [, , tokenIndex], grad }) => [gather(grad, tokenIndex!), null, null],
  emit: (e, [x, padIndex]) => e.node("Gather", [x!, padIndex!], { axis: 0 }),
};

/** Padded places back to packed rows: y [P, D], tokenIndex [T], padIndex [P], rowMask [P, 1] → [T, D]. Padding gets gradient 0. */
export const unpadRowsOp: OpDef<null> = {
  name: "unpad_rows",
  infer: (inputs) => {
    const [y, tokenIndex, padIndex, rowMask] = inputs;
    const places = y!.shape[0]!;
    if (inputs.length !== 4 || y!.shape.length !== 2 || !sameShape(padIndex!.shape, [places]) || !sameShape(rowMask!.shape, [places, 1])) {
      throw shapeError("unpad_rows", inputs, "y [P, D], tokenIndex [T], padIndex [P] and rowMask [P, 1]");
    }
    return [{ dtype: y!.dtype, shape: [tokenIndex!.shape[0]!, y!.shape[1]!] }];
  },
  vjp: ({ inputs: [, , padIndex, rowMask], grad }) => [mul(gather(grad, padIndex!), rowMask!), null, null, null],
  emit: (e, [y, tokenIndex]) => e.node("Gather", [y!, tokenIndex!], { axis: 0 }),
};

/**
 * What is added to attention scores so that texts do not see padding: slots [S], lengths [B] → float32 [B, 1, 1, S], 0 where the slot is
 * within the text, else the lowest float32 (as transformers' masks have it).
 */
export const lengthMaskOp: OpDef<null> = {
  name: "length_mask",
  infer: (inputs) => {
    const [slots, lengths] = inputs;
    if (inputs.length !== 2 || inputs.some((type) => type.dtype !== "int32" || type.shape.length !== 1)) {
      throw shapeError("length_mask", inputs, "int32 slots [S] and lengths [B]");
    }
    return [{ dtype: "float32", shape: [lengths!.shape[0]!, 1, 1, slots!.shape[0]!] }];
  },
  vjp: "stop",
  emit: (e, [slots, lengths]) => {
    const [row] = e.node("Unsqueeze", [slots!, e.constant(i64([0, 1, 2]))]);
    const [column] = e.node("Unsqueeze", [lengths!, e.constant(i64([1, 2, 3]))]);
    const [seen] = e.node("Less", [row!, column!]);
    return e.node("Where", [seen!, e.constant(f32([0], [])), e.constant(f32([-3.4028234663852886e38], []))]);
  },
};

/** The additive mask that hides padding, [B, 1, 1, S]. */
export function lengthMask(batch: BatchInputs): Value {
  return apply1(lengthMaskOp, [batch.slots, batch.lengths], null);
}

/** Packed rows [T, heads*K] to one matrix per text and head, [B, heads, S, K]. */
export function splitHeads(x: Value, heads: number, batch: BatchInputs): Value {
  const width = Number(x.shape[1]);
  if (!Number.isInteger(width / heads)) throw shapeError("splitHeads", [x.type], `[T, D] with D a multiple of ${heads} heads`);
  const padded = apply1(padRowsOp, [x, batch.padIndex, batch.tokenIndex], null);
  return transpose(reshape(padded, ["B", "S", heads, width / heads]), [0, 2, 1, 3]);
}

/** [B, heads, S, K] back to packed rows [T, heads*K]. */
export function mergeHeads(x: Value, batch: BatchInputs): Value {
  const [, heads, , headDim] = x.shape;
  const padded = reshape(transpose(x, [0, 2, 1, 3]), ["B*S", Number(heads) * Number(headDim)]);
  return apply1(unpadRowsOp, [padded, batch.tokenIndex, batch.padIndex, batch.rowMask], null);
}

/**
 * softmax(q·kᵀ/√K + mask)·v (Vaswani et al. 2017, arXiv:1706.03762, §3.2.1). q [B, H, S, K]; k, v [B, H, N, K]; mask broadcasts to
 * [B, H, S, N]; `dropout` is applied to the probabilities.
 */
export function attend(q: Value, k: Value, v: Value, mask: Value, dropout: (probabilities: Value) => Value): Value {
  const scores = matmul(q, k, { transB: true, alpha: 1 / Math.sqrt(Number(q.shape[3])) });
  return matmul(dropout(softmax(add(scores, mask))), v);
}
