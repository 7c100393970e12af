import type { Tensor } from "../core/tensor.js";
import { nearest, WeightError } from "../errors.js";
import { quote } from "./json.js";

/** Element types that weight files store, in safetensors' spelling. */
export type StoredDType = "F64" | "F32" | "F16" | "BF16" | "I64" | "I32" | "I16" | "I8" | "U8" | "BOOL";

/** What a weight file says of one tensor before its bytes are read. */
export interface StoredTensor {
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  /** Where a file packs numbers into blocks (GGUF's quantisations): how, and in how many bytes; `dtype` is then what they are read as. */
  readonly packed?: { readonly type: string; readonly bytes: number };
}

/** Named tensors in one or more weight files, read one at a time. */
export interface TensorSource {
  /** All tensors there are. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** One tensor as float32 (F64, F16 and BF16 are converted, which is exact for F16 and BF16). Throws WeightError for a missing name or an integer tensor. */
  readFloat32(name: string): Promise<Tensor<"float32">>;
}

/** The error for a name that is not among the tensors of `where`. */
export function missingTensor(where: string, name: string, tensors: ReadonlyMap<string, StoredTensor>): WeightError {
  const near = nearest(name, tensors.keys());
  return new WeightError(`${where}: no tensor ${quote(name)} among its ${tensors.size}`, { hint: near && `Did you mean ${near}?` });
}
