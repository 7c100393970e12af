import { input, type OpDef, type TensorType } from "../core/graph.js";
import { geluOp, geluSlopeOp, siluOp, siluSlopeOp } from "./activation.js";
import { attentionMaskOp, headPadOp, headTokenOp, padRowsOp, slotMaskOp, stripMaskOp, unpadRowsOp } from "./attention.js";
import { blockProductOp, rowPartsOp } from "./block-product.js";
import { cachedAttentionOp } from "./cached-attention.js";
import { denseProductOp } from "./dense-form.js";
import * as elementwise from "./elementwise.js";
import { foretoldOp } from "./foretold.js";
import { gemmOp, matmulOp } from "./linear.js";
import { linearCrossEntropyOp } from "./linear-cross-entropy.js";
import { crossEntropyOp, oneHotOp } from "./loss.js";
import { concatOp, expandOp, gatherOp, reshapeOp, scatterAddOp, sliceOp, transposeOp } from "./movement.js";
import { layerNormOp, rmsNormOp } from "./norm.js";
import { q8ProductOp } from "./q8.js";
import { afterOp } from "./recompute.js";
import { softmaxOp, sumOp } from "./reduce.js";
import { residualNormOp } from "./residual-norm.js";
import { rotaryAnglesOp, rotaryOp } from "./rotary.js";
import { show } from "./shapes.js";
import { bytesForm } from "./stored-cases.fixture.js";
import type { StoredMatrix } from "./weight-form.js";

/** Inputs that an op's shape rule must refuse, with the whole message. */
export interface Refusal<A = unknown> {
  readonly op: OpDef<A>;
  readonly types: readonly TensorType[];
  readonly attrs: A;
  readonly message: string;
}

const refusal = <A>(op: OpDef<A>, types: readonly TensorType[], attrs: A, expected: string): Refusal =>
  ({ op, types, attrs, message: expected }) as Refusal;

const float = (...shape: TensorType["shape"]): TensorType => ({ dtype: "float32", shape });
const int = (...shape: TensorType["shape"]): TensorType => ({ dtype: "int32", shape });
const byte = (...shape: TensorType["shape"]): TensorType => ({ dtype: "int8", shape });
const codes = (block: number): TensorType => ({ dtype: "uint8", shape: [3, 1, block] });
const zeros: TensorType = { dtype: "uint8", shape: [3, 1] };
const stored: StoredMatrix = { shape: [5, 3], part: (name, type) => input(name, type.dtype, type.shape) };
const plain = { transA: false, transB: false, alpha: 1 };

/** What each op's shape rule refuses; at least one per op. */
export const refusals: readonly Refusal[] = [
  ...[elementwise.addOp, elementwise.subOp, elementwise.mulOp, elementwise.divOp].flatMap((op) => [
    refusal(
      op,
      [float("T", 3), float(4)],
      null,
      "got float32[T,3], float32[4]; expected shapes that are equal or 1 in every place, counted from the right",
    ),
    refusal(
      op,
      [float("T"), float("S")],
      null,
      "got float32[T], float32[S]; expected shapes that are equal or 1 in every place, counted from the right",
    ),
    refusal(op, [float(3)], null, "got float32[3]; expected 2 inputs of float32"),
    refusal(op, [float(3), int(3)], null, "got float32[3], int32[3]; expected 2 inputs of float32"),
  ]),
  ...[
    elementwise.negOp,
    elementwise.expOp,
    elementwise.logOp,
    elementwise.sqrtOp,
    elementwise.tanhOp,
    elementwise.sigmoidOp,
    elementwise.reluOp,
    elementwise.signOp,
    elementwise.detachOp,
    elementwise.erfOp,
    geluOp,
    siluOp,
  ].flatMap((op) => [
    refusal(op, [int("T")], null, "got int32[T]; expected 1 input of float32"),
    refusal(op, [], null, "got nothing; expected 1 input of float32"),
  ]),
  refusal(geluSlopeOp, [int(2, 3)], null, "got int32[2,3]; expected 1 input of float32"),
  refusal(siluSlopeOp, [float(2, 3)], null, "got float32[2,3]; expected 2 inputs of float32"),
  refusal(sumOp, [float(2, 3)], { axes: [2] }, "got float32[2,3]; expected an axis 2"),
  refusal(sumOp, [int(2, 3)], { axes: [0] }, "got int32[2,3]; expected 1 input of float32"),
  refusal(softmaxOp, [float(2, 3)], { axis: -3 }, "got float32[2,3]; expected an axis -3"),
  refusal(reshapeOp, [float("T", 6)], { shape: ["T", 2, 4] }, "got float32[T,6]; expected as many elements as [T,2,4] has"),
  refusal(reshapeOp, [float("B*S", 6)], { shape: ["B", "T", 6] }, "got float32[B*S,6]; expected as many elements as [B,T,6] has"),
  refusal(expandOp, [float(2, 3)], { shape: [4, 3] }, "got float32[2,3]; expected a shape that broadcasts to [4,3]"),
  refusal(expandOp, [float(1, 3)], { shape: [3] }, "got float32[1,3]; expected a shape that broadcasts to [3]"),
  refusal(transposeOp, [float(2, 3)], { order: [0, 2, 1] }, "got float32[2,3]; expected as many axes as the order [0,2,1] names"),
  refusal(transposeOp, [float(2, 3)], { order: [1, 1] }, "got float32[2,3]; expected as many axes as the order [1,1] names"),
  refusal(gatherOp, [float(2, 3), float(4)], null, "got float32[2,3], float32[4]; expected a table [R, ...] and int32 indices [N]"),
  refusal(gatherOp, [float(2, 3), int(4, 1)], null, "got float32[2,3], int32[4,1]; expected a table [R, ...] and int32 indices [N]"),
  refusal(
    scatterAddOp,
    [float("N", 3), int("T")],
    { rows: 4 },
    "got float32[N,3], int32[T]; expected float32 rows [N, ...] and int32 indices [N]",
  ),
  refusal(
    concatOp,
    [float(2, 3), float(2, 4)],
    { axis: 0 },
    "got float32[2,3], float32[2,4]; expected shapes that are equal but for axis 0",
  ),
  refusal(concatOp, [float(2, 3), int(2, 3)], { axis: 0 }, "got float32[2,3], int32[2,3]; expected shapes that are equal but for axis 0"),
  refusal(sliceOp, [float(2, 3)], { axis: 1, start: 1, end: 4 }, "got float32[2,3]; expected an axis 1 that holds [1, 4)"),
  refusal(sliceOp, [float(2, 3)], { axis: 1, start: 2, end: 1 }, "got float32[2,3]; expected an axis 1 that holds [2, 1)"),
  refusal(sliceOp, [float("T", 3)], { axis: 0, start: 0, end: "T+1" }, "got float32[T,3]; expected an axis 0 that holds [0, T+1)"),
  refusal(sliceOp, [float(2, 3)], { axis: 1, start: -1, end: 2 }, "got float32[2,3]; expected an axis 1 that holds [-1, 2)"),
  refusal(gemmOp, [float("T", 3), float(4, 3)], plain, "got float32[T,3], float32[4,3]; expected inner sizes that agree: 3 is not 4"),
  refusal(
    gemmOp,
    [float(3, "T"), float(4, 5)],
    { ...plain, transA: true, transB: true },
    "got float32[3,T], float32[4,5]; expected inner sizes that agree, A transposed, B transposed: 3 is not 5",
  ),
  refusal(gemmOp, [float(2, "T", 3), float(3, 4)], plain, "got float32[2,T,3], float32[3,4]; expected two matrices"),
  refusal(
    gemmOp,
    [float("T", 3), float(3, 4), float("T", 1)],
    plain,
    "got float32[T,3], float32[3,4], float32[T,1]; expected an addend of shape [T,4] or [4]",
  ),
  refusal(
    matmulOp,
    [float("B", 2, 3), float("S", 3, 4)],
    plain,
    "got float32[B,2,3], float32[S,3,4]; expected equal sizes before the last two axes",
  ),
  refusal(
    matmulOp,
    [float("B", 2, 3), float("B", 4, 3)],
    plain,
    "got float32[B,2,3], float32[B,4,3]; expected inner sizes that agree: 3 is not 4",
  ),
  refusal(
    layerNormOp,
    [float("T", 7), float(7), float(6)],
    { eps: 0 },
    "got float32[T,7], float32[7], float32[6]; expected x [.., D], weight [D] and bias [D]",
  ),
  refusal(
    padRowsOp,
    [float("T", 2), int("B*S"), int("L")],
    null,
    "got float32[T,2], int32[B*S], int32[L]; expected x [T, D], padIndex [P] and tokenIndex [T]",
  ),
  refusal(
    unpadRowsOp,
    [float("B*S", 2), int("T"), int("B*S"), float("T", 1)],
    null,
    "got float32[B*S,2], int32[T], int32[B*S], float32[T,1]; expected y [P, D], tokenIndex [T], padIndex [P] and rowMask [P, 1]",
  ),
  refusal(
    headPadOp,
    [int("P"), int("B"), int("S")],
    { heads: 2 },
    "got int32[P], int32[B], int32[S]; expected int32 padIndex [B*S], lengths [B] and slots [S]",
  ),
  refusal(headTokenOp, [int("T"), float("S")], { heads: 2 }, "got int32[T], float32[S]; expected int32 tokenIndex [T] and slots [S]"),
  refusal(
    slotMaskOp,
    [int("B", "S"), int("P")],
    { window: null },
    "got int32[B,S], int32[P]; expected int32 querySlots [B, S] and keySlots [B, N]",
  ),
  refusal(
    stripMaskOp,
    [int("A", "W"), int("A", "S")],
    { causal: false, window: null },
    "got int32[A,W], int32[A,S]; expected int32 texts [A, W] and positions [A, W]",
  ),
  refusal(rmsNormOp, [float("T", 7), float(6)], { eps: 1e-5 }, "got float32[T,7], float32[6]; expected x [.., D] and weight [D]"),
  refusal(rotaryAnglesOp, [float("T")], { frequencies: [1], scale: 1 }, "got float32[T]; expected int32 positions [T]"),
  refusal(
    rotaryOp,
    [float("T", 8), float("T", 4), float("T", 4)],
    { heads: 2 },
    "got float32[T,8], float32[T,4], float32[T,4]; expected x [T, 2*K], cos and sin [T, K/2]",
  ),
  refusal(
    attentionMaskOp,
    [int("S"), float("B")],
    { causal: false, window: null, ahead: 0 },
    "got int32[S], float32[B]; expected int32 slots [S] and lengths [B]",
  ),
  refusal(crossEntropyOp, [float("L", 5), int("T")], null, "got float32[L,5], int32[T]; expected logits [L, C] and int32 classes [L]"),
  refusal(crossEntropyOp, [float("L", 5), int("L", 2)], null, "got float32[L,5], int32[L,2]; expected logits [L, C] and int32 classes [L]"),
  ...[
    [float("L", 5), float(9, 4), int("L")],
    [float("L", 5), float(9, 5), int("T")],
    [float("L", 5), float(9, 5), int("L"), float(5)],
  ].map((types) =>
    refusal(
      linearCrossEntropyOp,
      types,
      { chunks: 8, least: 1 },
      `got ${types.map(show).join(", ")}; expected hidden [L, D], a table [V, D], int32 classes [L] and perhaps a bias [V]`,
    ),
  ),
  ...[
    [float("L", 5), int("T")],
    [float("L", 5), int("L"), float(9, 4)],
    [float("L", 1), int("L")],
  ].map((types) =>
    refusal(
      foretoldOp,
      types,
      { top: 2, chunks: 8, least: 1 },
      `got ${types.map(show).join(", ")}; expected rows [L, D], int32 classes [L] and perhaps a table [V, D] and a bias [V], V at least 2`,
    ),
  ),
  refusal(afterOp, [float("T", 2), float("B", 2)], null, "got float32[T,2], float32[B,2]; expected two values of one shape"),
  refusal(oneHotOp, [float("L")], { classes: 3 }, "got float32[L]; expected int32 classes [L]"),
  ...[
    { types: [float("T", 3), byte(4, 5), float(5)], got: "float32[T,3], int8[4,5], float32[5]" },
    { types: [float("T", 3), float(3, 5), float(5)], got: "float32[T,3], float32[3,5], float32[5]" },
    { types: [float("T", 3), byte(3, 5), float(3)], got: "float32[T,3], int8[3,5], float32[3]" },
    { types: [float("T", 3), byte(3, 5), float(5), float(3)], got: "float32[T,3], int8[3,5], float32[5], float32[3]" },
  ].map(({ types, got }) =>
    refusal(
      q8ProductOp,
      types,
      { matrix: stored, transB: true, alpha: 1 },
      `got ${got}; expected float32[T,K], int8[K,N], float32[N], and float32[N] or nothing`,
    ),
  ),
  refusal(rowPartsOp, [float("T", 31)], { bits: 8 }, "got float32[T,31]; expected float32 [T, K] with K a multiple of 32"),
  ...[
    [float("T", 32), codes(32), float(3), zeros],
    [float("T", 32), codes(16), float(3, 1), zeros],
    [float("T", 31), codes(32), float(3, 1), zeros],
    [float("T", 32), codes(32), float(3, 1), float(3, 1)],
    [float("T", 32), codes(32), float(3, 1)],
  ].map((types) =>
    refusal(
      blockProductOp,
      types,
      { bits: 8, K: 32, N: 3, inParts: false },
      `got ${types.map(show).join(", ")}; expected float32[T,32], uint8[3,1,32], float32[3,1], uint8[3,1]`,
    ),
  ),
  refusal(
    blockProductOp,
    [float("T", 32), codes(16), float(3, 1)],
    { bits: 4, K: 32, N: 3, inParts: true },
    "got float32[T,32], uint8[3,1,16], float32[3,1]; expected float32[2,T,32], uint8[3,1,16], float32[3,1]",
  ),
  ...[
    { types: [float("T", 5), byte(5, 3)], got: "float32[T,5], int8[5,3]" },
    { types: [float("T", 3), byte(3, 5)], got: "float32[T,3], int8[3,5]" },
    { types: [float("T", 3), float(5, 3)], got: "float32[T,3], float32[5,3]" },
    { types: [float("T", 3), byte(5, 3), float(3)], got: "float32[T,3], int8[5,3], float32[3]" },
  ].map(({ types, got }) =>
    refusal(
      denseProductOp,
      types,
      { form: bytesForm, matrix: stored, transB: true, alpha: 1 },
      `got ${got}; expected float32[T,3], int8[5,3], and float32[5] or nothing`,
    ),
  ),
  ...[
    { B: "C", angle: 1 },
    { B: "B", angle: 2 },
  ].map(({ B, angle }) => {
    const types = [float("T", 4), float("T", 2), float("T", 2), float("B", 1, "S", "P+S"), float(B, 1, "P", 2), float(B, 1, "P", 2)];
    const all = [...types, int("B", "S"), int("T"), float("T", angle), float("T", angle)];
    return refusal(
      cachedAttentionOp,
      all,
      { heads: 2, kvHeads: 1 },
      `got ${all.map(show).join(", ")}; expected q [T, 2*K], k, v [T, 1*K], mask [B, 1, S, P+S], past keys and values [B, 1, P, K], places [B, S], tokenIndex [T], and cos and sin [T, K/2] or nothing`,
    );
  }),
  refusal(
    residualNormOp,
    [float("T", 3), float("T", 3), float(4)],
    { op: rmsNormOp, eps: 0 },
    "got float32[T,3], float32[T,3], float32[4]; expected two matrices [T, D] and the norm's vectors [D]",
  ),
];
