import { apply1, type Emitter, type OpDef, type Value } from "../core/graph.js";
import { f32, i32, i64 } from "../core/tensor.js";
import { bytesOf } from "../core/work.js";
import { chunkSizes, frozenLayer } from "./linear-cross-entropy.js";
import { sameShape, shapeError } from "./shapes.js";

interface ForetoldAttrs {
  /** How many of the likeliest classes are named. */
  readonly top: number;
  /** Rows are cut into so many parts, each of `least` rows at least; the logits of one part exist at a time. */
  readonly chunks: number;
  readonly least: number;
}

/**
 * What rows foretell, of logits h·Wᵀ + b: for each row -log softmax(logits)[class] in nats (NaN for a class below 0: none is known), then the
 * likeliest classes, the likeliest first and the first of equals, each with the logarithm of its probability. Inputs hidden [L, D], classes
 * int32 [L], table W [V, D] and, where there is one, bias b [V]; or logits [L, V] and classes. Outputs float32 [L, 1 + 2·top], which holds
 * classes below 2²⁴ exactly.
 */
export const foretoldOp: OpDef<ForetoldAttrs> = {
  name: "foretold",
  infer: (inputs, { top }) => {
    const [rows, classes, table, bias] = inputs;
    const [L, width] = rows?.shape ?? [];
    const fits =
      rows?.shape.length === 2 &&
      classes?.dtype === "int32" &&
      sameShape(classes.shape, [L!]) &&
      (table === undefined || (table.shape.length === 2 && table.shape[1] === width)) &&
      (bias === undefined || sameShape(bias.shape, [table!.shape[0]!])) &&
      top <= Number((table ?? rows).shape[table === undefined ? 1 : 0]);
    if (!fits)
      throw shapeError("foretold", inputs, `rows [L, D], int32 classes [L] and perhaps a table [V, D] and a bias [V], V at least ${top}`);
    return [{ dtype: "float32", shape: [L!, 1 + 2 * top] }];
  },
  vjp: "unsupported",
  work([rows, , table], [foretold], { chunks, least }) {
    const [L, width] = rows!.shape as [number, number];
    if (table === undefined) return { moved: 4 * L * width * 8, scratch: 2 * bytesOf(rows!) };
    const V = table.shape[0]!;
    const part = Math.min(L, Math.max(least, Math.ceil(L / chunks)));
    return {
      product: { kind: "f32", operations: 2 * L * width * V },
      moved: 4 * L * V * 9 + bytesOf(foretold!),
      scratch: 2 * 4 * part * V,
    };
  },
  emit: (e, [rows, classes, ...layer], { top, chunks, least }, types) => {
    if (layer.length === 0) return [foretold(e, rows!, classes!, top)];
    const sizes = chunkSizes(e, e.shape(types[0]!.shape.slice(0, 1)), { chunks, least });
    const split = (x: string): readonly string[] => e.node("Split", [x, sizes], { axis: 0 }, { outputs: chunks });
    const own = split(classes!);
    const parts = split(rows!).map((h, i) => foretold(e, e.node("Gemm", [h, ...layer], { transB: 1 })[0]!, own[i]!, top));
    return e.node("Concat", parts, { axis: 0 });
  },
};

/** Of logits [n, V] and classes [n]: [n, 1 + 2·top]. Not by TopK, which ends the process where n is 0 (ORT 1.30). */
function foretold(e: Emitter, logits: string, classes: string, top: number): string {
  const column = e.constant(i64([1]));
  const own = e.node("Unsqueeze", [classes, column])[0]!;
  const highestOf = (x: string): string => e.node("ReduceMax", [x, column])[0]!;
  // log Σ exp(logits), from the largest of them and the largest of the softmax: no number is too small for a logarithm
  const share = e.node("Log", [highestOf(e.node("Softmax", [logits], { axis: 1 })[0]!)])[0]!;
  const total = e.node("Sub", [highestOf(logits), share])[0]!;
  const loss = e.node("Sub", [total, e.node("GatherElements", [logits, own], { axis: 1 })[0]!])[0]!;
  const unknown = e.node("Less", [own, e.constant(i32([0]))])[0]!;
  const columns = [e.node("Where", [unknown, e.constant(f32([Number.NaN], [])), loss])[0]!];
  for (let rank = 0, left = logits; rank < top; rank++) {
    const [id] = e.node("ArgMax", [left], { axis: 1 });
    columns.push(e.node("Cast", [id!], { to: 1 })[0]!, e.node("Sub", [highestOf(left), total])[0]!);
    if (rank + 1 < top) left = without(e, left, id!);
  }
  return e.node("Concat", columns, { axis: 1 })[0]!;
}

/** Rows [n, V] with -∞ at one column of each, int64 [n, 1]. */
function without(e: Emitter, rows: string, id: string): string {
  const width = e.node("Squeeze", [e.node("Shape", [rows], { start: 1, end: 2 })[0]!])[0]!;
  const columns = e.node("Range", [e.constant(i64([0], [])), width, e.constant(i64([1], []))])[0]!;
  const named = e.node("Equal", [columns, id])[0]!;
  return e.node("Where", [named, e.constant(f32([Number.NEGATIVE_INFINITY], [])), rows])[0]!;
}

/**
 * What rows foretell, float32 [L, 1 + 2·top]: -log softmax(logits)[class] in nats, NaN for a class below 0, then the `top` likeliest classes,
 * each with the logarithm of its probability. Where the logits [L, V] come from a frozen output layer, they never exist all at once.
 */
export function foretells(logits: Value, classes: Value, top: number): Value {
  const [hidden, ...layer] = frozenLayer(logits) ?? [logits];
  return apply1(foretoldOp, [hidden, classes, ...layer], { top, chunks: 16, least: 64 });
}
