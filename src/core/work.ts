import { bytesPer, type DType, sizeOf } from "./tensor.js";

/** A tensor of which the sizes are known, but not the numbers. */
export interface Sized {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** How matrix products are computed: on float32, on many small float32 matrices at once (attention), or from a form of storage, by its name. */
export type ProductKind = "f32" | "batched" | (string & {});

/** What it takes to run an op, for estimates. */
export interface Work {
  /** Operations of matrix products, two for each multiplication with an addition, and how they are computed. */
  readonly product?: { readonly kind: ProductKind; readonly operations: number };
  /** Bytes that are read and written by all else. */
  readonly moved: number;
  /** The most bytes that values within the op take, besides its inputs and outputs. */
  readonly scratch: number;
}

/** Bytes of tensors. */
export function bytesOf(...tensors: readonly Sized[]): number {
  return tensors.reduce((total, { dtype, shape }) => total + bytesPer[dtype] * sizeOf(shape), 0);
}

/** The work of an op that reads each of its inputs and writes each of its outputs once. */
export function onePass(inputs: readonly Sized[], outputs: readonly Sized[]): Work {
  return { moved: bytesOf(...inputs, ...outputs), scratch: 0 };
}

/** The work of an op that shows its input in another shape: ONNX Runtime does not copy. */
export const noWork: Work = { moved: 0, scratch: 0 };
