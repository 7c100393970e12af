import { EigenvalueDecomposition, Matrix, QrDecomposition } from "ml-matrix";

/** The largest singular values of a matrix [m, n] with their vectors, in descending order. */
export interface SingularPart {
  /** Left singular vectors as columns, [m, r]. */
  readonly left: Matrix;
  readonly values: readonly number[];
  /** Right singular vectors as columns, [n, r]. */
  readonly right: Matrix;
}

/** A row-major matrix [rows, columns] in float64. */
export function matrixOf(data: ArrayLike<number>, rows: number, columns: number): Matrix {
  return Matrix.from1DArray(rows, columns, Array.from(data));
}

/** The numbers of a matrix, row by row. */
export function rowsOf(matrix: Matrix): Float32Array {
  return Float32Array.from(matrix.to1DArray());
}

/**
 * The r largest singular values of W [m, n] and their vectors, r ≤ m, n, from the eigenvectors of the smaller of W·Wᵀ and Wᵀ·W. In float64 that
 * is exact to float32, except that values below 1e-7 of the largest and their vectors are zeros.
 */
export function topSingular(W: Matrix, r: number): SingularPart {
  if (W.rows < W.columns) {
    const { left, values, right } = topSingular(W.transpose(), r);
    return { left: right, values, right: left };
  }
  const { eigenvectorMatrix, realEigenvalues } = new EigenvalueDecomposition(W.transpose().mmul(W), { assumeSymmetric: true });
  const order = Array.from({ length: W.columns }, (_, i) => W.columns - 1 - i).slice(0, r); // they come in ascending order
  const largest = Math.sqrt(Math.max(0, realEigenvalues[order[0]!]!));
  const values = order.map((column) => {
    const value = Math.sqrt(Math.max(0, realEigenvalues[column]!));
    return value > 1e-7 * largest ? value : 0;
  });
  const right = Matrix.zeros(W.columns, r);
  for (const [i, column] of order.entries()) if (values[i]! > 0) right.setColumn(i, eigenvectorMatrix.getColumn(column));
  const inverse = Matrix.diag(values.map((value) => (value > 0 ? 1 / value : 0)));
  return { left: W.mmul(right).mmul(inverse), values, right };
}

/**
 * An approximation of `topSingular` from `iterations` rounds of subspace iteration that begins with `start` [n, r]: torch's `svd_lowrank`
 * (Halko et al. 2011, arXiv:0909.4061, algorithms 4.4 and 5.1).
 */
export function randomSingular(W: Matrix, start: Matrix, iterations: number): SingularPart {
  const transposed = W.transpose();
  let basis = orthonormal(W.mmul(start));
  for (let i = 0; i < iterations; i++) basis = orthonormal(W.mmul(orthonormal(transposed.mmul(basis))));
  const { left, values, right } = topSingular(basis.transpose().mmul(W), start.columns);
  return { left: basis.mmul(left), values, right };
}

/** An orthonormal basis of the columns of a matrix [m, n], [m, n]; m ≥ n. */
export function orthonormal(matrix: Matrix): Matrix {
  return new QrDecomposition(matrix).orthogonalMatrix;
}
