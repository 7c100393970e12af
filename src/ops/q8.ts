import { apply1, type OpDef, type TensorType } from "../core/graph.js";
import { f32, i64, sizeOf, type Tensor } from "../core/tensor.js";
import { productWork, scaled } from "./linear.js";
import { expectInputs, sameShape, shapeError } from "./shapes.js";
import { nearestInteger, type StoredMatrix, type WeightForm } from "./weight-form.js";

/** Steps from 0 to the largest magnitude, of activations in a row and of weights in a column. */
const steps = 127;
/** What stands for 0 in an activation's byte: ORT's kernels for signed activations are several times slower than those for unsigned ones. */
const zeroPoint: Tensor = { dtype: "uint8", shape: [], data: Uint8Array.of(128) };
/** The least magnitude that a row is divided by, so that rows of zeros stay zeros. */
const tiny = 1e-30;

/** Which product of which matrix: what the backward pass multiplies by is read only where there is one. */
interface Q8Attrs {
  readonly matrix: StoredMatrix;
  readonly transB: boolean;
  /** A factor on the product, not on the addend; costs nothing. */
  readonly alpha: number;
}

/**
 * alpha·(s ∘ round(x / s)) · (W ∘ sW) + addend with x [T, K] rounded by rows, s = max|x| / 127, and W int8 [K, N] scaled by columns sW [N]. A row's
 * result does not depend on the others. Its gradient by x is that of x·W, as if nothing were rounded (straight-through; Bengio et al. 2013,
 * arXiv:1308.3432), computed by the matrix's other product, with the gradient rounded by rows as well.
 */
export const q8ProductOp: OpDef<Q8Attrs> = {
  name: "q8_product",
  addend: ([, , , addend]) => addend,
  infer: (inputs) => {
    const [x, weight, scales, addend] = inputs;
    const [K, N] = weight?.shape ?? [];
    const fits =
      x?.shape.length === 2 &&
      weight?.dtype === "int8" &&
      weight.shape.length === 2 &&
      x.shape[1] === K &&
      sameShape(scales?.shape ?? [], [N!]);
    if (!fits || (addend !== undefined && !sameShape(addend.shape, [N!])))
      throw shapeError("q8_product", inputs, "float32[T,K], int8[K,N], float32[N], and float32[N] or nothing");
    expectInputs("q8_product", [x, scales!, ...inputs.slice(3)], inputs.length - 1);
    return [{ dtype: "float32", shape: [x.shape[0]!, N!] }];
  },
  vjp: ({ attrs: { matrix, transB, alpha }, inputs, grad }) => [
    scaled(q8.product(grad, matrix, !transB), alpha),
    null,
    null,
    ...inputs.slice(3).map(() => grad),
  ],
  work: ([x], [y]) => productWork("q8", y!, x!.shape[1]!, sizeOf(x!.shape)), // a byte for each number of x, rounded
  emit: (e, [x, weight, scales, addend], { alpha }, [type]) => {
    const along = e.constant(i64([1]));
    const [highest] = e.node("ReduceMax", [x!, along], { keepdims: 0 });
    const [lowest] = e.node("ReduceMin", [x!, along], { keepdims: 0 });
    const magnitude = e.node("Max", [highest!, e.node("Neg", [lowest!])[0]!, e.constant(f32([tiny]))])[0]!;
    const step = e.node("Mul", [magnitude, e.constant(f32([1 / steps], []))])[0]!;
    const zero = e.constant(zeroPoint);
    const zeros = e.node("Expand", [zero, e.shape(type!.shape.slice(0, 1))])[0]!; // one node for all products of a batch
    const [rounded] = e.node("QuantizeLinear", [x!, step, zeros], { axis: 0 });
    const factors = [rounded!, weight!, e.constant(f32([alpha], [])), scales!, zero];
    const [product] = e.node("MatMulIntegerToFloat", factors, {}, { domain: "com.microsoft" });
    const whole = e.node("Mul", [product!, e.node("Unsqueeze", [step, along])[0]!]);
    return addend === undefined ? whole : e.node("Add", [whole[0]!, addend]);
  },
};

/**
 * Int8 with a scale for each output: the fast form. M is held twice, once for each product: as Mᵀ [C, R] with a scale for each of M's rows
 * (`rows`), and as M [R, C] with one for each column (`columns`).
 */
export const q8: WeightForm = {
  name: "q8",
  product(x, matrix, transB, addend) {
    const [R, C] = matrix.shape;
    const [name, K, N] = transB ? (["rows", C, R] as const) : (["columns", R, C] as const);
    const weight = matrix.part(name, { dtype: "int8", shape: [K, N] });
    const scales = matrix.part(`${name}_scale`, float(N));
    return apply1(q8ProductOp, [x, weight, scales, ...(addend === undefined ? [] : [addend])], { matrix, transB, alpha: 1 });
  },
  squaredNorms: ({ shape, part }, transB) => (transB ? part("rows_norm", float(shape[0])) : part("columns_norm", float(shape[1]))),
  store(matrix, parts) {
    const sides = new Map<string, Scaled>();
    return Object.fromEntries(
      parts.map((part) => {
        const [side, what] = part.split("_");
        const { values, scales } = sides.get(side!) ?? scaledIntegers(matrix, side === "rows");
        sides.set(side!, { values, scales });
        return [part, what === undefined ? values : what === "scale" ? f32(scales) : f32(squaredNorms(values, scales))];
      }),
    );
  },
};

const float = (size: number): TensorType => ({ dtype: "float32", shape: [size] });

/** Integers [K, N], and the step of each column. */
interface Scaled {
  readonly values: Tensor<"int8">;
  readonly scales: Float32Array;
}

/** A matrix [R, C] in steps of the largest magnitude / 127 of each row, turned to [C, R], or of each column. */
function scaledIntegers({ shape, data }: Tensor<"float32">, byRow: boolean): Scaled {
  const [R, C] = [shape[0]!, shape[1]!];
  const most = new Float32Array(byRow ? R : C);
  for (let i = 0, r = 0; r < R; r++)
    for (let c = 0; c < C; c++, i++) {
      const n = byRow ? r : c;
      const magnitude = Math.abs(data[i]!);
      if (magnitude > most[n]!) most[n] = magnitude;
    }
  const inverse = Float64Array.from(most, (magnitude) => (magnitude === 0 ? 0 : steps / magnitude));
  const values = new Int8Array(R * C);
  if (byRow) {
    for (let first = 0; first < R; first += tile)
      for (let c = 0; c < C; c++)
        for (let r = first, end = Math.min(R, first + tile); r < end; r++)
          values[c * R + r] = nearestInteger(data[r * C + c]! * inverse[r]!);
  } else {
    for (let i = 0, r = 0; r < R; r++) for (let c = 0; c < C; c++, i++) values[i] = nearestInteger(data[i]! * inverse[c]!);
  }
  return { values: { dtype: "int8", shape: byRow ? [C, R] : [R, C], data: values }, scales: most.map((magnitude) => magnitude / steps) };
}

/** Rows that are turned together: one cache line of bytes, of a few cache lines each. */
const tile = 32;

/** The squared norm of each column. */
function squaredNorms({ data }: Tensor<"int8">, scales: Float32Array): Float32Array {
  const N = scales.length;
  return scales.map((scale, n) => {
    let total = 0;
    for (let i = n; i < data.length; i += N) total += data[i]! ** 2;
    return scale * scale * total;
  });
}
