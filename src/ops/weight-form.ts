import type { TensorType, Value } from "../core/graph.js";
import type { Tensor } from "../core/tensor.js";

/** A frozen matrix M [R, C] of which a graph reads only the tensors in which a form stores it. */
export interface StoredMatrix {
  readonly shape: readonly [rows: number, columns: number];
  /** The tensor that the form calls so. */
  part(name: string, type: TensorType): Value;
}

/**
 * A way to store frozen matrices other than as float32, and to multiply with what is stored. Checkpoints hold linear weights as [out, in] or
 * (Conv1D) as [in, out]: forms know neither, only a matrix and the two products that layers need of it, one forward and one backward.
 */
export interface WeightForm {
  /** The value of `--base-dtype`. */
  readonly name: string;
  /** The form in which it stores a frozen output layer over the vocabulary, which forms without one leave in float32. */
  readonly head?: WeightForm;
  /** x·Mᵀ (`transB`) or x·M, plus an addend [N]; its gradient by x is the other product. Inputs are float32 [T, C] or [T, R]. */
  product(x: Value, matrix: StoredMatrix, transB: boolean, addend?: Value): Value;
  /** The squared norms [R] of M's rows (`transB`), or [C] of its columns, as the product that `transB` names has them. */
  squaredNorms(matrix: StoredMatrix, transB: boolean): Value;
  /** The tensors of these names that store a matrix. Throws WeightError for numbers that the form cannot hold; `path` is whose they are. */
  store(matrix: Tensor<"float32">, parts: readonly string[], path: string): Readonly<Record<string, Tensor>>;
}

/** The nearest whole number, halves upwards. Math.round does the same but takes V8 five times as long, which is felt over a model's weights. */
export function nearestInteger(x: number): number {
  return Math.floor(x + 0.5);
}
