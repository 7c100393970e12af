import type { Value } from "../core/graph.js";
import { mul } from "../ops/elementwise.js";
import { gemm } from "../ops/linear.js";
import { sum } from "../ops/reduce.js";
import type { StoredMatrix, WeightForm } from "../ops/weight-form.js";

/** A layer's product with its weight, and what is added to it. */
type Product = (x: Value, addend?: Value) => Value;

/** How a layer multiplies by its weight, held as [out, in], or as [in, out] where it is transposed; and the squared norms of its outputs' weights. */
export function floatProduct(weight: Value, transposed: boolean): readonly [Product, () => Value] {
  return [(x, addend) => gemm(x, weight, { transB: !transposed }, addend), () => sum(mul(weight, weight), [transposed ? 0 : 1])];
}

/** The same where a form stores the weight. */
export function storedProduct(form: WeightForm, matrix: StoredMatrix, transposed: boolean): readonly [Product, () => Value] {
  return [(x, addend) => form.product(x, matrix, !transposed, addend), () => form.squaredNorms(matrix, !transposed)];
}
