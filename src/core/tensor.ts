import { ShapeError } from "../errors.js";

/** Element types that graphs and sessions know, in ONNX Runtime's spelling. */
export type DType = "float32" | "float16" | "int32" | "int64" | "uint8" | "int8" | "bool";

/** The typed array that holds a dtype's elements in memory. */
export interface TypedArrays {
  readonly float32: Float32Array;
  /** Bits, for hosts without Float16Array. */
  readonly float16: Uint16Array;
  readonly int32: Int32Array;
  readonly int64: BigInt64Array;
  readonly uint8: Uint8Array;
  readonly int8: Int8Array;
  readonly bool: Uint8Array;
}

/** Numbers with a shape, row-major. Never changed once made, except by the optimiser, which owns the parameters. */
export interface Tensor<D extends DType = DType> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly data: TypedArrays[D];
}

/** Named tensors: what goes into a session's run and what comes out of it. */
export type Feeds = Readonly<Record<string, Tensor>>;

/** Bytes of an element. */
export const bytesPer: Readonly<Record<DType, number>> = { float32: 4, float16: 2, int32: 4, int64: 8, uint8: 1, int8: 1, bool: 1 };

/** Number of elements of a shape; 1 for a scalar's `[]`. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** A float32 tensor over `data`, which is not copied. */
export function f32(data: Float32Array | readonly number[], shape: readonly number[] = [data.length]): Tensor<"float32"> {
  return checked({ dtype: "float32", shape, data: data instanceof Float32Array ? data : Float32Array.from(data) });
}

/** An int32 tensor over `data`, which is not copied. */
export function i32(data: Int32Array | readonly number[], shape: readonly number[] = [data.length]): Tensor<"int32"> {
  return checked({ dtype: "int32", shape, data: data instanceof Int32Array ? data : Int32Array.from(data) });
}

/** An int64 tensor. */
export function i64(data: readonly number[], shape: readonly number[] = [data.length]): Tensor<"int64"> {
  return checked({ dtype: "int64", shape, data: BigInt64Array.from(data, BigInt) });
}

function checked<D extends DType>(tensor: Tensor<D>): Tensor<D> {
  if (tensor.data.length !== sizeOf(tensor.shape)) {
    throw new ShapeError(`a tensor of shape [${tensor.shape}] needs ${sizeOf(tensor.shape)} elements, got ${tensor.data.length}`);
  }
  return tensor;
}
