import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { fillTorchUniform } from "./torch-random.js";

/** Made by tools/golden/make_torch_uniform.py with torch 2.15: float32 values as their bits; of long tensors every 97th and the last. */
const golden = JSON.parse(readFileSync(new URL("fixtures/torch-uniform.json", import.meta.url), "utf8")) as {
  readonly uniform: readonly { seed: number; size: number; low: number; high: number; bits: readonly number[] }[];
  readonly matrices: readonly { seed: number; r: number; in: number; out: number; A: readonly number[]; B: readonly number[] }[];
};

const drawn = (size: number, seed: number, skip: number, low: number, high: number): Float32Array => {
  const out = new Float32Array(size);
  fillTorchUniform(out, seed, skip, low, high);
  return out;
};

function bits(values: Float32Array): readonly number[] {
  const all = [...new Int32Array(values.buffer)];
  return all.length <= 32 ? all : [...all.filter((_, i) => i % 97 === 0), all.at(-1)!];
}

describe("torch's uniform_, to the bit", () => {
  it.each(golden.uniform)("seed $seed, $size numbers in [$low, $high)", ({ seed, size, low, high, bits: wanted }) => {
    expect(bits(drawn(size, seed, 0, low, high))).toEqual(wanted);
  });

  it.each(golden.matrices)("two matrices from one generator: seed $seed, r $r", ({ seed, r, in: inner, out, A, B }) => {
    const bound = (fanIn: number): number => Math.sqrt(3) * (Math.sqrt(2) / Math.sqrt(fanIn));
    expect(bits(drawn(r * inner, seed, 0, -bound(inner), bound(inner)))).toEqual(A);
    expect(bits(drawn(out * r, seed, r * inner, -bound(r), bound(r)))).toEqual(B);
  });
});
