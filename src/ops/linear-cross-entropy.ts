import { apply1, type Emitter, type OpDef, type Value } from "../core/graph.js";
import { i64 } from "../core/tensor.js";
import { mul } from "./elementwise.js";
import { gemmOp, type ProductAttrs } from "./linear.js";
import { sameShape, shapeError } from "./shapes.js";

/** How rows are cut: into `chunks` parts, each of `least` rows at least, since a product of few rows takes as long as one of many. */
interface ChunkAttrs {
  readonly chunks: number;
  readonly least: number;
}

/**
 * -log softmax(h·Wᵀ + b)[class] for each row h, in nats, chunk by chunk, so that the logits of all rows never exist at once. Inputs hidden
 * [L, D], table W [V, D], classes int32 [L] and, where there is one, bias b [V]. Outputs the losses [L, 1], and for the backward pass their
 * slopes by hidden, softmax·W − W[class], [L, D]. The table and the bias are frozen: they have no gradient.
 */
export const linearCrossEntropyOp: OpDef<ChunkAttrs> = {
  name: "linear_cross_entropy",
  infer: (inputs) => {
    const [hidden, table, classes, bias] = inputs;
    const [L, D] = hidden!.shape;
    const fits =
      (inputs.length === 3 || inputs.length === 4) &&
      hidden!.shape.length === 2 &&
      sameShape(table!.shape, [table!.shape[0]!, D!]) &&
      classes!.dtype === "int32" &&
      sameShape(classes!.shape, [L!]) &&
      (bias === undefined || sameShape(bias.shape, [table!.shape[0]!]));
    if (!fits) throw shapeError("linear_cross_entropy", inputs, "hidden [L, D], a table [V, D], int32 classes [L] and perhaps a bias [V]");
    return [
      { dtype: "float32", shape: [L!, 1] },
      { dtype: "float32", shape: [L!, D!] },
    ];
  },
  vjp: ({ outputs: [, slopes], grad }) => [mul(slopes!, grad), null, null, null],
  work([hidden, table], _, { chunks, least }) {
    const [L, D, V] = [hidden!.shape[0]!, hidden!.shape[1]!, table!.shape[0]!];
    const rows = Math.min(L, Math.max(least, Math.ceil(L / chunks)));
    // logits and softmax of a chunk; the logits are written and read twice, the softmax is made in three passes and read twice
    return { product: { kind: "f32", operations: 4 * L * D * V }, moved: 4 * L * V * 9, scratch: 2 * 4 * rows * V };
  },
  emit: (e, [hidden, table, classes, bias], attrs, types) => {
    const sizes = chunkSizes(e, e.shape(types[0]!.shape.slice(0, 1)), attrs);
    const split = (x: string): readonly string[] => e.node("Split", [x, sizes], { axis: 0 }, { outputs: attrs.chunks });
    const rows = split(classes!);
    let before: string | undefined; // without an order ORT makes all chunks' logits first, and keeps them for the losses, which it leaves for last
    const parts = split(hidden!).map((part, i) => {
      const h = before === undefined ? part : after(e, part, before);
      const [logits] = e.node("Gemm", [h, table!, ...(bias === undefined ? [] : [bias])], { transB: 1 });
      const [odds] = e.node("Softmax", [logits!], { axis: -1 });
      const column = e.constant(i64([1]));
      const [own] = e.node("GatherElements", [logits!, e.node("Unsqueeze", [rows[i]!, column])[0]!], { axis: 1 });
      // log Σ exp(logits), from the largest of them and the largest of the softmax: no number is too small for a logarithm
      const [top] = e.node("ReduceMax", [logits!, column]);
      const [share] = e.node("Log", [e.node("ReduceMax", [odds!, column])[0]!]);
      const [losses] = e.node("Sub", [e.node("Sub", [top!, own!])[0]!, share!]);
      const [named] = e.node("Gather", [table!, rows[i]!], { axis: 0 });
      const [slopes] = e.node("Gemm", [after(e, odds!, losses!), table!, named!], { beta: { float: -1 } });
      before = slopes!;
      return [losses!, slopes!] as const;
    });
    return [0, 1].map(
      (output) =>
        e.node(
          "Concat",
          parts.map((part) => part[output]!),
          { axis: 0 },
        )[0]!,
    );
  },
};

/** A matrix that cannot be had before another one is: reshaped to its own sizes (0 says "as it is"), which copies nothing. */
function after(e: Emitter, matrix: string, other: string): string {
  const [asItIs] = e.node("Min", [e.node("Shape", [other])[0]!, e.constant(i64([0, 0]))]);
  return e.node("Reshape", [matrix, asItIs!])[0]!;
}

/** How many of L rows (int64 [1]) each chunk takes, int64 [chunks]: all of the same size, but for the last ones, which may be empty. */
export function chunkSizes(e: Emitter, rows: string, { chunks, least }: ChunkAttrs): string {
  const counts = (first: number): string => e.constant(i64(Array.from({ length: chunks }, (_, i) => first + i)));
  const even = e.node("Div", [e.node("Add", [rows, e.constant(i64([chunks - 1]))])[0]!, e.constant(i64([chunks]))])[0]!;
  const [size] = e.node("Max", [even, e.constant(i64([least]))]);
  const before = (first: number): string => e.node("Min", [e.node("Mul", [size!, counts(first)])[0]!, rows])[0]!;
  return e.node("Sub", [before(1), before(0)])[0]!;
}

/**
 * The rows [L, D], the frozen table [V, D] and, where there is one, the frozen bias [V] that logits are a product of; undefined for any other
 * logits, such as those of a table that is trained.
 */
export function frozenLayer(logits: Value): readonly [hidden: Value, table: Value, ...bias: Value[]] | undefined {
  const { source } = logits;
  if (source.kind !== "op" || source.op !== gemmOp) return undefined;
  const [hidden, table, bias] = source.inputs;
  const { transA, transB, alpha } = source.attrs as ProductAttrs;
  const frozen = [table!, ...(bias === undefined ? [] : [bias])].every((each) => each.source.kind === "weight");
  if (!frozen || transA || !transB || alpha !== 1 || (bias !== undefined && bias.shape.length !== 1)) return undefined;
  return [hidden!, table!, ...(bias === undefined ? [] : [bias])];
}

/** The losses [L, 1] of logits of a frozen output layer, without those logits; undefined for any other logits. */
export function linearCrossEntropy(logits: Value, classes: Value): Value | undefined {
  const layer = frozenLayer(logits);
  if (layer === undefined) return undefined;
  const [hidden, table, ...bias] = layer;
  return apply1(linearCrossEntropyOp, [hidden, table, classes, ...bias], { chunks: 8, least: 128 });
}
