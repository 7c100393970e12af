import { describe, expect, it } from "vitest";
import { WeightError } from "../errors.js";
import { floatBytes } from "./float-bytes.js";
import { type StoredFloat, toFloat32 } from "./safetensors.js";

const through = (dtype: StoredFloat, values: readonly number[]): number[] => [
  ...toFloat32(dtype, new Uint8Array(floatBytes(dtype, Float32Array.from(values), "w"))),
];

describe("floats as bytes", () => {
  it.each(["F16", "BF16"] as const)("%s: every value that it has comes back as it was", (dtype) => {
    const all = Uint16Array.from({ length: 2 ** 16 }, (_, i) => i);
    const values = toFloat32(dtype, new Uint8Array(all.buffer));
    const back = new Uint16Array(new Uint8Array(floatBytes(dtype, values, "w")).buffer);
    const changed = [...all].filter((bits, i) => back[i] !== bits && !Number.isNaN(values[i]));
    expect(changed).toEqual([]);
    expect([...toFloat32(dtype, new Uint8Array(back.buffer))].filter(Number.isNaN).length).toBe([...values].filter(Number.isNaN).length);
  });

  it.each(["F16", "BF16"] as const)("%s: halfway between neighbours the even one is taken, beside it the nearer one", (dtype) => {
    const neighbours = toFloat32(dtype, new Uint8Array(Uint16Array.from({ length: 0x7a00 }, (_, i) => i).buffer));
    const faults: string[] = [];
    for (let i = 0; i + 1 < neighbours.length; i += 37) {
      const [low, high] = [neighbours[i]!, neighbours[i + 1]!];
      const middle = (low + high) / 2;
      if (Math.fround(middle) !== middle) continue; // the smallest of bfloat16: binary32 has no number between them
      const step = Math.max(middle * 2 ** -23, 2 ** -149);
      const [below, at, above] = through(dtype, [middle - step, middle, middle + step]);
      const even = i % 2 === 0 ? low : high;
      if (below !== low || at !== even || above !== high) faults.push(`${low} to ${high}: ${below}, ${at}, ${above}`);
    }
    expect(faults).toEqual([]);
  });

  it("keeps float32 and widens to float64", () => {
    expect(through("F32", [0.1, -0])).toEqual([Math.fround(0.1), -0]);
    expect(through("F64", [0.1, 1e-45])).toEqual([Math.fround(0.1), Math.fround(1e-45)]);
  });

  it("refuses numbers that would become infinite", () => {
    expect(through("F16", [65504, -65519])).toEqual([65504, -65504]);
    expect(() => through("F16", [1, 65520])).toThrow(WeightError);
    expect(() => through("F16", [1, 65520])).toThrow(/w: 65520 is too large for F16/);
    expect(() => through("BF16", [3.38e38, 3.4028234e38])).toThrow(/too large for BF16/);
    expect(through("F16", [Number.POSITIVE_INFINITY])).toEqual([Number.POSITIVE_INFINITY]);
  });
});
