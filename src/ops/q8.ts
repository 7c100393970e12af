import { apply1, type OpDef, type TensorType } from "../core/graph.js";
import { f32, i64, type Tensor } from "../core/tensor.js";
import { scaled } from "./linear.js";
import { expectInputs, sameShape, shapeError } from "./shapes.js";
import type { StoredMatrix, WeightForm } from "./weight-form.js";

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
  addendAt: 3,
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
  emit: (e, [x, weight, scales, addend], { alpha }) => {
    const along = e.constant(i64([1]));
    const [highest] = e.node("ReduceMax", [x!, along], { keepdims: 1 });
    const [lowest] = e.node("ReduceMin", [x!, along], { keepdims: 1 });
    const magnitude = e.node("Max", [highest!, e.node("Neg", [lowest!])[0]!, e.constant(f32([tiny], [1, 1]))])[0]!;
    const step = e.node("Mul", [magnitude, e.constant(f32([1 / steps], []))])[0]!;
    const byRow = e.node("Reshape", [step, e.constant(i64([-1]))])[0]!;
    const zero = e.constant(zeroPoint);
    const zeros = e.node("Expand", [zero, e.node("Shape", [byRow])[0]!])[0]!;
    const [rounded] = e.node("QuantizeLinear", [x!, byRow, zeros], { axis: 0 });
    const factors = [rounded!, weight!, e.constant(f32([alpha], [])), scales!, zero];
    const [product] = e.node("MatMulIntegerToFloat", factors, {}, { domain: "com.microsoft" });
    const whole = e.node("Mul", [product!, step]);
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
  store({ shape, data }, part) {
    const [R, C] = [shape[0]!, shape[1]!];
    const [side, what] = part.split("_");
    const at = side === "rows" ? (n: number, k: number): number => data[n * C + k]! : (n: number, k: number): number => data[k * C + n]!;
    const [N, K] = side === "rows" ? [R, C] : [C, R];
    const scales = Float32Array.from({ length: N }, (_, n) => magnitude(K, (k) => at(n, k)) / steps);
    if (what === "scale") return f32(scales);
    const values = rounded(K, N, at, scales);
    if (what === undefined) return { dtype: "int8", shape: [K, N], data: values };
    return f32(scales.map((scale, n) => scale * scale * squares(values, n, N)));
  },
};

const float = (size: number): TensorType => ({ dtype: "float32", shape: [size] });

function magnitude(K: number, at: (k: number) => number): number {
  let most = 0;
  for (let k = 0; k < K; k++) most = Math.max(most, Math.abs(at(k)));
  return most;
}

/** The numbers at(n, k) in steps of each n's scale, as [K, N]. */
function rounded(K: number, N: number, at: (n: number, k: number) => number, scales: Float32Array): Int8Array {
  const values = new Int8Array(K * N);
  for (let n = 0; n < N; n++) {
    const scale = scales[n]!;
    if (scale > 0) for (let k = 0; k < K; k++) values[k * N + n] = Math.round(at(n, k) / scale);
  }
  return values;
}

/** Σ values[k, n]² over k. */
function squares(values: Int8Array, n: number, N: number): number {
  let total = 0;
  for (let i = n; i < values.length; i += N) total += values[i]! ** 2;
  return total;
}
