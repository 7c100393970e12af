import { f32, sizeOf, type Tensor } from "../core/tensor.js";
import { randomTensor } from "./run-graph.fixture.js";

/** Reads a tensor in a reference: `x(i, j)`. */
export type At = (...index: number[]) => number;

/** A dense result in float64. */
export interface Reference {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

/** A tensor of `shape` whose elements are computed from their index. */
export function tabulate(shape: readonly number[], at: At): Reference {
  const strides = shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));
  const data = Array.from({ length: sizeOf(shape) }, (_, flat) =>
    at(...shape.map((size, axis) => Math.floor(flat / strides[axis]!) % size)),
  );
  return { shape, data };
}

/** Reads a tensor by index. */
export function reader({ shape, data }: Tensor): At {
  return (...index) => Number(data[index.reduce((flat, i, axis) => flat * shape[axis]! + i, 0)]);
}

/** Σ at(i) for i in [0, n). */
export function total(n: number, at: (i: number) => number): number {
  let result = 0;
  for (let i = 0; i < n; i++) result += at(i);
  return result;
}

/** erf by its Maclaurin series, exact to about 1e-12 for |x| < 3. */
export function erfOf(x: number): number {
  let [term, result] = [x, x];
  for (let n = 1; n < 80; n++) {
    term *= -(x * x) / n;
    result += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * result;
}

/** A random tensor without values within 0.1 of 0, for functions with a kink or a pole there. */
export function awayFromZero(shape: readonly number[], label: string): Tensor<"float32"> {
  return f32(
    randomTensor(shape, label).data.map((x) => x + 0.1 * (x < 0 ? -1 : 1)),
    shape,
  );
}
