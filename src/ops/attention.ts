import type { BatchInputs, CacheInputs, PlaceInputs, StripInputs } from "../core/batch.js";
import { type Dim, dimAdd, dimMul } from "../core/dims.js";
import { apply1, type OpDef, type Value } from "../core/graph.js";
import { f32, i32, i64 } from "../core/tensor.js";
import { add, div, mul } from "./elementwise.js";
import { matmul } from "./linear.js";
import { expand, gather, reshape } from "./movement.js";
import { softmax, sum } from "./reduce.js";
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

/** Which keys a query sees. */
export interface Sight {
  /** Only keys that do not come after the query. */
  readonly causal: boolean;
  /** Only the last so many keys, the query's own included; null for all. */
  readonly window: number | null;
  /** Keys in front of each text that all queries see, unless a window hides them. */
  readonly ahead: number;
}

/**
 * What is added to attention scores so that queries see only what they may: slots [S], lengths [B] → float32, 0 where the key is seen, else
 * the lowest float32 (as transformers' masks have it). [B, 1, 1, N+S] hides padding; the causal one, [1, 1, S, N+S], need not, since
 * padding comes after the text.
 */
export const attentionMaskOp: OpDef<Sight> = {
  name: "attention_mask",
  infer: (inputs, { causal, ahead }) => {
    const [slots, lengths] = inputs;
    if (inputs.length !== 2 || inputs.some((type) => type.dtype !== "int32" || type.shape.length !== 1)) {
      throw shapeError("attention_mask", inputs, "int32 slots [S] and lengths [B]");
    }
    const [S, B] = [slots!.shape[0]!, lengths!.shape[0]!];
    return [{ dtype: "float32", shape: causal ? [1, 1, S, dimAdd(S, ahead)] : [B, 1, 1, dimAdd(S, ahead)] }];
  },
  vjp: "stop",
  emit: (e, [slots, lengths], { causal, window, ahead }) => {
    const number = (value: number): string => e.constant(i32([value], []));
    const own = ahead === 0 ? slots! : e.node("Add", [slots!, number(ahead)])[0]!;
    const front = i32(Int32Array.from({ length: ahead }, (_, i) => i));
    const keys = ahead === 0 ? own : e.node("Concat", [e.constant(front), own], { axis: 0 })[0]!;
    const [row] = e.node("Unsqueeze", [keys, e.constant(i64([0, 1, 2]))]);
    const queries = causal ? own : ahead === 0 ? lengths! : e.node("Add", [lengths!, number(ahead)])[0]!;
    const [column] = e.node("Unsqueeze", [queries, e.constant(i64(causal ? [0, 1, 3] : [1, 2, 3]))]);
    const [within] = e.node(causal ? "LessOrEqual" : "Less", [row!, column!]);
    const near = (): string => e.node("Greater", [row!, e.node("Sub", [column!, number(window!)])[0]!])[0]!;
    const seen = window === null ? within! : e.node("And", [within!, near()])[0]!;
    return e.node("Where", [seen, e.constant(f32([0], [])), e.constant(f32([-3.4028234663852886e38], []))]);
  },
};

/**
 * The mask of texts that are continued: querySlots [B, S], keySlots [B, N] → float32 [B, 1, S, N], 0 where the key is in the query's slot or
 * before it (and within the window), else the lowest float32.
 */
export const slotMaskOp: OpDef<Pick<Sight, "window">> = {
  name: "slot_mask",
  infer: (inputs) => {
    const [queries, keys] = inputs;
    const fits = inputs.length === 2 && inputs.every((type) => type.dtype === "int32" && type.shape.length === 2);
    if (!fits || queries!.shape[0] !== keys!.shape[0]) throw shapeError("slot_mask", inputs, "int32 querySlots [B, S] and keySlots [B, N]");
    return [{ dtype: "float32", shape: [queries!.shape[0]!, 1, queries!.shape[1]!, keys!.shape[1]!] }];
  },
  vjp: "stop",
  emit: (e, [querySlots, keySlots], { window }) => {
    const [queries] = e.node("Unsqueeze", [querySlots!, e.constant(i64([1, 3]))]);
    const [keys] = e.node("Unsqueeze", [keySlots!, e.constant(i64([1, 2]))]);
    const [within] = e.node("LessOrEqual", [keys!, queries!]);
    const near = (): string => e.node("Greater", [keys!, e.node("Sub", [queries!, e.constant(i32([window!], []))])[0]!])[0]!;
    const seen = window === null ? within! : e.node("And", [within!, near()])[0]!;
    return e.node("Where", [seen, e.constant(f32([0], [])), e.constant(f32([-3.4028234663852886e38], []))]);
  },
};

/**
 * The mask of strips: texts and positions, int32 [A, W] as in StripInputs → float32 [A, 1, W, W], 0 where the key is of the query's text (and
 * where it is not behind it, and within the window), else the lowest float32. Padding sees padding, so that every query sees a key.
 */
export const stripMaskOp: OpDef<Omit<Sight, "ahead">> = {
  name: "strip_mask",
  infer: (inputs) => {
    const [texts, positions] = inputs;
    const fits = inputs.length === 2 && inputs.every((type) => type.dtype === "int32" && type.shape.length === 2);
    if (!fits || !sameShape(texts!.shape, positions!.shape))
      throw shapeError("strip_mask", inputs, "int32 texts [A, W] and positions [A, W]");
    const [A, W] = texts!.shape;
    return [{ dtype: "float32", shape: [A!, 1, W!, W!] }];
  },
  vjp: "stop",
  emit: (e, inputs, { causal, window }) => {
    const [[textKeys, textQueries], [keys, queries]] = inputs.map((each) => [
      e.node("Unsqueeze", [each, e.constant(i64([1, 2]))])[0]!,
      e.node("Unsqueeze", [each, e.constant(i64([1, 3]))])[0]!,
    ]) as [[string, string], [string, string]];
    const both = (a: string, b: string): string => e.node("And", [a, b])[0]!;
    let seen = e.node("Equal", [textKeys, textQueries])[0]!;
    if (causal) seen = both(seen, e.node("LessOrEqual", [keys, queries])[0]!);
    if (window !== null) seen = both(seen, e.node("Greater", [keys, e.node("Sub", [queries, e.constant(i32([window], []))])[0]!])[0]!);
    return e.node("Where", [seen, e.constant(f32([0], [])), e.constant(f32([-3.4028234663852886e38], []))]);
  },
};

/** The additive mask of attention within strips, [A, 1, W, W]. A window works with causal sight only. */
export function stripMask({ texts, positions }: StripInputs, sight: Omit<Sight, "ahead">): Value {
  return apply1(stripMaskOp, [texts, positions], sight);
}

/** The mask of texts that are continued, [B, 1, S, N+P+S]. */
export function slotMask({ querySlots, keySlots }: CacheInputs, window: number | null): Value {
  return apply1(slotMaskOp, [querySlots, keySlots], { window });
}

/** The additive mask of a batch's attention, broadcastable to [B, heads, S, N+S]. A window works with causal sight only. */
export function attentionMask(batch: BatchInputs, sight: Sight): Value {
  return apply1(attentionMaskOp, [batch.slots, batch.lengths], sight);
}

/** Places of packed rows in [B, heads, S] order: padIndex [B*S], lengths [B], slots [S] → int32 [B*heads*S], rows of a [T*heads, K] view. */
export const headPadOp: OpDef<{ readonly heads: number }> = {
  name: "head_pad",
  infer: (inputs, { heads }) => {
    const [padIndex, lengths, slots] = inputs;
    const fits = inputs.length === 3 && inputs.every((type) => type.dtype === "int32" && type.shape.length === 1);
    if (!fits || padIndex!.shape[0] !== dimMul(lengths!.shape[0]!, slots!.shape[0]!)) {
      throw shapeError("head_pad", inputs, "int32 padIndex [B*S], lengths [B] and slots [S]");
    }
    return [{ dtype: "int32", shape: [dimMul(padIndex!.shape[0]!, heads)] }];
  },
  vjp: "stop",
  emit: (e, [padIndex, lengths], { heads }) => {
    const [texts] = e.node("Shape", [lengths!]);
    const [rows] = e.node("Reshape", [padIndex!, e.node("Concat", [texts!, e.constant(i64([1, -1]))], { axis: 0 })[0]!]);
    const [first] = e.node("Mul", [rows!, e.constant(i32([heads], []))]);
    const [all] = e.node("Add", [
      first!,
      e.constant(
        i32(
          Int32Array.from({ length: heads }, (_, head) => head),
          [heads, 1],
        ),
      ),
    ]);
    return e.node("Reshape", [all!, e.constant(i64([-1]))]);
  },
};

/** The inverse of head_pad: tokenIndex [T], slots [S] → int32 [T*heads], places in [B, heads, S] of each token's heads. */
export const headTokenOp: OpDef<{ readonly heads: number }> = {
  name: "head_token",
  infer: (inputs, { heads }) => {
    if (inputs.length !== 2 || inputs.some((type) => type.dtype !== "int32" || type.shape.length !== 1)) {
      throw shapeError("head_token", inputs, "int32 tokenIndex [T] and slots [S]");
    }
    return [{ dtype: "int32", shape: [dimMul(inputs[0]!.shape[0]!, heads)] }];
  },
  vjp: "stop",
  emit: (e, [tokenIndex, slots], { heads }) => {
    // b·heads·S + head·S + s, from the place b·S + s
    const [size] = e.node("Cast", [e.node("Size", [slots!])[0]!], { to: 6 });
    const [slot] = e.node("Mod", [tokenIndex!, size!]);
    const [text] = e.node("Mul", [e.node("Sub", [tokenIndex!, slot!])[0]!, e.constant(i32([heads], []))]);
    const [first] = e.node("Unsqueeze", [e.node("Add", [text!, slot!])[0]!, e.constant(i64([1]))]);
    const [offsets] = e.node("Mul", [
      e.constant(
        i32(
          Int32Array.from({ length: heads }, (_, head) => head),
          [1, heads],
        ),
      ),
      size!,
    ]);
    const [all] = e.node("Add", [first!, offsets!]);
    return e.node("Reshape", [all!, e.constant(i64([-1]))]);
  },
};

/** Where the heads of packed rows stand in [B, heads, S], or (strips) [A, heads, W]; computed once a graph and used by all layers. */
export interface HeadPlaces {
  readonly heads: number;
  /** B, or A. */
  readonly rows: Dim;
  /** S, or W. */
  readonly width: Dim;
  /** For each place in [B, heads, S] the row of a [T*heads, K] view, int32 [B*heads*S]. */
  readonly pad: Value;
  /** For each row of a [T*heads, K] view its place in [B, heads, S], int32 [T*heads]. */
  readonly token: Value;
  /** 1 for real places, 0 for padding, [B*heads*S, 1]. */
  readonly mask: Value;
}

/** The places of `heads` heads in a packed batch. */
export function headPlaces(batch: PlaceInputs, heads: number): HeadPlaces {
  const [rows, width] = [batch.lengths.shape[0]!, batch.slots.shape[0]!];
  const mask = expand(reshape(batch.rowMask, [rows, 1, width, 1]), [rows, heads, width, 1]);
  return {
    heads,
    rows,
    width,
    pad: apply1(headPadOp, [batch.padIndex, batch.lengths, batch.slots], { heads }),
    token: apply1(headTokenOp, [batch.tokenIndex, batch.slots], { heads }),
    mask: reshape(mask, [dimMul(rows, heads, width), 1]),
  };
}

/** Packed rows [T, heads*K] to one matrix per text and head, [B, heads, S, K]: one gather of K numbers a row, no transpose. */
export function splitHeads(x: Value, { heads, rows: texts, width, pad, token }: HeadPlaces): Value {
  const headDim = Number(x.shape[1]) / heads;
  if (!Number.isInteger(headDim)) throw shapeError("splitHeads", [x.type], `[T, D] with D a multiple of ${heads} heads`);
  const rows = reshape(x, [dimMul(x.shape[0]!, heads), headDim]);
  return reshape(apply1(padRowsOp, [rows, pad, token], null), [texts, heads, width, headDim]);
}

/** [B, heads, S, K] back to packed rows [T, heads*K]. */
export function mergeHeads(x: Value, { heads, rows: texts, width, pad, token, mask }: HeadPlaces): Value {
  const headDim = Number(x.shape[3]);
  const rows = apply1(unpadRowsOp, [reshape(x, [dimMul(texts, heads, width), headDim]), token, pad, mask], null);
  return reshape(rows, ["T", heads * headDim]);
}

/** The mean of x [T, n] over the tokens of each text, at each of its tokens, [T, n]. */
export function textMean(x: Value, batch: BatchInputs): Value {
  const n = Number(x.shape[1]);
  const places = headPlaces(batch, 1);
  const mask = reshape(batch.rowMask, ["B", 1, "S", 1]);
  const total = sum(mul(splitHeads(x, places), mask), [2]);
  const mean = div(total, sum(mask, [2]));
  return mergeHeads(expand(reshape(mean, ["B", 1, 1, n]), ["B", 1, "S", n]), places);
}

/**
 * softmax(q·kᵀ/√K + mask)·v (Vaswani et al. 2017, arXiv:1706.03762, §3.2.1). q [B, H, S, K]; k, v [B, G, N, K] where each of G heads serves
 * H/G queries' heads in a row (Ainslie et al. 2023, arXiv:2305.13245); mask broadcasts to [B, H, S, N]; `dropout` is applied to the
 * probabilities.
 */
export function attend(q: Value, k: Value, v: Value, mask: Value, dropout: (probabilities: Value) => Value): Value {
  const [B, H, S, K] = q.shape as [Dim, number, Dim, number];
  const [, G, N] = k.shape as [Dim, number, Dim];
  const shared = H / G; // queries' heads that share a key stand next to each other: one product serves them all
  const rows = dimMul(shared, S);
  const scores = matmul(reshape(q, [B, G, rows, K]), k, { transB: true, alpha: 1 / Math.sqrt(K) });
  const probabilities = dropout(softmax(add(reshape(scores, [B, H, S, N]), mask)));
  return reshape(matmul(reshape(probabilities, [B, G, rows, N]), v), q.shape);
}
