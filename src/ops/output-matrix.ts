import type { Value } from "../core/graph.js";
import { mul } from "./elementwise.js";
import { gemm } from "./linear.js";
import { sum } from "./reduce.js";
import type { StoredMatrix, WeightForm } from "./weight-form.js";

/**
 * An output matrix in float32 under a name of its own, where texts are continued: as the table of embeddings, which it often is as well, it would be
 * fed, and the product of a row with a matrix that ONNX Runtime has not laid out takes half as long again. Its bytes are those of the table.
 */
export const outputMatrix: WeightForm = {
  name: "output",
  product: (x, matrix, transB, addend) => gemm(x, whole(matrix), { transB }, addend),
  squaredNorms(matrix, transB) {
    const numbers = whole(matrix);
    return sum(mul(numbers, numbers), [transB ? 1 : 0]);
  },
  store: (matrix, names) => Object.fromEntries(names.map((name) => [name, matrix])),
};

function whole({ shape, part }: StoredMatrix): Value {
  return part("matrix", { dtype: "float32", shape });
}
