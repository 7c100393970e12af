import { f32, type Tensor } from "./tensor.js";

/** W + s·B·A, summed in double precision and rounded once: W [m, n], B [m, r], A [r, n] → [m, n]. */
export function addProduct(W: Tensor<"float32">, B: Tensor<"float32">, A: Tensor<"float32">, s: number): Tensor<"float32"> {
  const [m, n] = [W.shape[0]!, W.shape[1]!];
  const r = A.shape[0]!;
  const out = new Float32Array(m * n);
  const row = new Float64Array(n);
  for (let i = 0; i < m; i++) {
    row.fill(0);
    for (let k = 0; k < r; k++) {
      const b = B.data[i * r + k]!;
      for (let j = 0; j < n; j++) row[j]! += b * A.data[k * n + j]!;
    }
    for (let j = 0; j < n; j++) out[i * n + j] = W.data[i * n + j]! + s * row[j]!;
  }
  return f32(out, W.shape);
}

/** diag(l)·W: each row times its factor. W [m, …], l of m factors. */
export function scaleRows(W: Tensor<"float32">, l: ArrayLike<number>): Tensor<"float32"> {
  const width = W.data.length / W.shape[0]!;
  return f32(
    W.data.map((value, i) => value * l[Math.floor(i / width)]!),
    W.shape,
  );
}

/** W·diag(l): each column times its factor. W [m, n], l of n factors. */
export function scaleColumns(W: Tensor<"float32">, l: ArrayLike<number>): Tensor<"float32"> {
  const width = W.shape[1]!;
  return f32(
    W.data.map((value, i) => value * l[i % width]!),
    W.shape,
  );
}

/** The first m rows and n columns of a matrix → [m, n]. */
export function corner({ data, shape }: Tensor<"float32">, [m, n]: readonly [number, number]): Tensor<"float32"> {
  const width = shape[1]!;
  return f32(
    Float32Array.from({ length: m * n }, (_, i) => data[Math.floor(i / n) * width + (i % n)]!),
    [m, n],
  );
}

/** The Euclidean norm of each row of W [m, n], in double precision. */
export function rowNorms(W: Tensor<"float32">): Float64Array {
  const [rows, columns] = [W.shape[0]!, W.shape[1]!];
  return Float64Array.from({ length: rows }, (_, i) =>
    Math.sqrt(W.data.subarray(i * columns, (i + 1) * columns).reduce((total, value) => total + value * value, 0)),
  );
}

/** Σ wᵢ·Tᵢ over tensors of one shape, in double precision. */
export function weightedSum(tensors: readonly Tensor<"float32">[], weights: readonly number[]): Tensor<"float32"> {
  const { shape, data } = tensors[0]!;
  return f32(
    data.map((_, i) => tensors.reduce((total, tensor, k) => total + weights[k]! * tensor.data[i]!, 0)),
    shape,
  );
}

/** max |aᵢ - bᵢ|, 0 for none; NaN where any number is. */
export function maxAbsDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= most)) most = difference;
    if (Number.isNaN(most)) return most;
  }
  return most;
}

/** Wᵀ: [m, n] → [n, m]. */
export function transpose({ data, shape }: Tensor<"float32">): Tensor<"float32"> {
  const [m, n] = [shape[0]!, shape[1]!];
  const out = new Float32Array(data.length);
  for (let i = 0; i < m; i++) for (let j = 0; j < n; j++) out[j * m + i] = data[i * n + j]!;
  return f32(out, [n, m]);
}
