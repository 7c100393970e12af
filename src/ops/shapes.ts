import type { Dim } from "../core/dims.js";
import type { TensorType } from "../core/graph.js";
import type { DType } from "../core/tensor.js";
import { ShapeError } from "../errors.js";

/** A type as messages show it: `float32[T,384]`. */
export function show(type: TensorType): string {
  return `${type.dtype}[${type.shape.join(",")}]`;
}

/** A ShapeError that names the op, what it got and what it expected. */
export function shapeError(op: string, inputs: readonly TensorType[], expected: string): ShapeError {
  return new ShapeError(`${op}: got ${inputs.map(show).join(", ") || "nothing"}; expected ${expected}`);
}

/** Numpy's broadcasting of two shapes, on symbolic sizes: equal, or one of them 1. Throws ShapeError. */
export function broadcast(op: string, a: TensorType, b: TensorType): readonly Dim[] {
  const rank = Math.max(a.shape.length, b.shape.length);
  const at = (shape: readonly Dim[], i: number): Dim => shape[i - (rank - shape.length)] ?? 1;
  return Array.from({ length: rank }, (_, i) => {
    const left = at(a.shape, i);
    const right = at(b.shape, i);
    if (left === right || right === 1) return left;
    if (left === 1) return right;
    throw shapeError(op, [a, b], "shapes that are equal or 1 in every place, counted from the right");
  });
}

/** Throws ShapeError unless there are `count` inputs, all of one of the dtypes. */
export function expectInputs(op: string, inputs: readonly TensorType[], count: number, dtypes: readonly DType[] = ["float32"]): void {
  if (inputs.length !== count || inputs.some((type) => !dtypes.includes(type.dtype))) {
    throw shapeError(op, inputs, `${count} input${count === 1 ? "" : "s"} of ${dtypes.join(" or ")}`);
  }
}

/** An axis counted from the front; negative ones count from the back. Throws ShapeError when there is no such axis. */
export function axisOf(op: string, type: TensorType, axis: number): number {
  const found = axis < 0 ? axis + type.shape.length : axis;
  if (!Number.isInteger(axis) || found < 0 || found >= type.shape.length) throw shapeError(op, [type], `an axis ${axis}`);
  return found;
}

/** Whether two shapes are the same, size by size. */
export function sameShape(a: readonly Dim[], b: readonly Dim[]): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}
