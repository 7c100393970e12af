import { halfBits } from "../core/half.js";
import { WeightError } from "../errors.js";
import type { StoredFloat } from "./safetensors.js";

/**
 * Numbers as little-endian bytes of a stored dtype, rounded to the nearest (ties to even) where it has fewer digits. `where` names them in
 * messages. Throws WeightError for finite numbers that are too large for the dtype. Takes the host to be little-endian.
 */
export function floatBytes(dtype: StoredFloat, data: Float32Array, where: string): Uint8Array {
  if (dtype === "F32") return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (dtype === "F64") return new Uint8Array(new Float64Array(data).buffer);
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
  const round = dtype === "BF16" ? bfloatBits : halfBits;
  const infinite = dtype === "BF16" ? 0x7f80 : 0x7c00;
  const out = new Uint16Array(data.length);
  for (let i = 0; i < out.length; i++) {
    out[i] = round(bits[i]!);
    if ((out[i]! & 0x7fff) === infinite && Number.isFinite(data[i])) {
      throw new WeightError(`${where}: ${data[i]} is too large for ${dtype}`, { hint: "write F32 or BF16 instead" });
    }
  }
  return new Uint8Array(out.buffer);
}

/** bfloat16 bits of binary32 bits: the upper half. */
function bfloatBits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40; // NaN stays one
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
