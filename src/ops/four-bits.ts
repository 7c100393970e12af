import type { Emitter } from "../core/graph.js";
import { f32, i64 } from "../core/tensor.js";

/** Which half of a byte holds the first of its two codes. */
export type FirstHalf = "high" | "low";

/** Codes 0 to 15 packed two a byte; an odd one out has a 0 beside it. */
export function packCodes(codes: Uint8Array, first: FirstHalf): Uint8Array {
  const [even, odd] = first === "high" ? [4, 0] : [0, 4];
  const bytes = new Uint8Array(Math.ceil(codes.length / 2));
  for (let i = 0; i < codes.length; i++) bytes[i >> 1]! |= codes[i]! << (i % 2 === 0 ? even : odd);
  return bytes;
}

/** The code at a place in packed bytes. */
export function codeAt(bytes: Uint8Array, i: number, first: FirstHalf): number {
  return (bytes[i >> 1]! >> ((i % 2 === 0) === (first === "high") ? 4 : 0)) & 15;
}

/** Writes nodes that look packed codes up in 16 numbers: bytes of any shape → float32 [.., 2], by a table of all pairs. */
export function lookUp(e: Emitter, bytes: string, numbers: ArrayLike<number>, first: FirstHalf): string {
  const pairs = Array.from({ length: 256 }, (_, byte) => [
    numbers[codeAt(Uint8Array.of(byte), 0, first)]!,
    numbers[codeAt(Uint8Array.of(byte), 1, first)]!,
  ]);
  const [indices] = e.node("Cast", [bytes], { to: 6 });
  return e.node("Gather", [e.constant(f32(pairs.flat(), [256, 2])), indices!], { axis: 0 })[0]!;
}

/** Writes a reshape to sizes that are known, where one of them may be -1. */
export function reshaped(e: Emitter, x: string, shape: readonly number[]): string {
  return e.node("Reshape", [x, e.constant(i64(shape))])[0]!;
}
