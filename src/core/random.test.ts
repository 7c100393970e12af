import { describe, expect, it } from "vitest";
import { fillDropoutMask, fillNormal, fillUniform, keyOf, philox, randomInt, shuffled } from "./random.js";

const words = (counter: readonly [number, number, number, number], k0: number, k1: number, rounds = 10): string[] => {
  const out = new Int32Array(4);
  philox(out, { k0, k1 }, ...counter, rounds);
  return Array.from(out, (word) => (word >>> 0).toString(16).padStart(8, "0"));
};

function moments(values: Float32Array): { mean: number; variance: number } {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  return { mean, variance: values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length };
}

function correlation(a: Float32Array, b: Float32Array): number {
  const [ma, mb] = [moments(a), moments(b)];
  return a.reduce((sum, x, i) => sum + (x - ma.mean) * (b[i]! - mb.mean), 0) / a.length / Math.sqrt(ma.variance * mb.variance);
}

function uniform(n: number, ...key: Parameters<typeof keyOf>): Float32Array {
  const out = new Float32Array(n);
  fillUniform(out, keyOf(...key), 0, 1);
  return out;
}

describe("philox", () => {
  it("gives Random123's known answers for philox4x32-10", () => {
    expect(words([0, 0, 0, 0], 0, 0)).toEqual(["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]);
    const ones = 0xffffffff;
    expect(words([ones, ones, ones, ones], ones, ones)).toEqual(["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]);
    expect(words([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], 0xa4093822, 0x299f31d0)).toEqual([
      "d16cfe09",
      "94fdcceb",
      "5001e420",
      "24126ea1",
    ]);
  });
});

describe("philox with 7 rounds", () => {
  it("gives Random123's known answer for philox4x32-7", () => {
    expect(words([0, 0, 0, 0], 0, 0, 7)).toEqual(["5f6fb709", "0d893f64", "4f121f81", "4f730a48"]);
  });
});

describe("keyOf", () => {
  it("separates order, type and where one part ends", () => {
    const keys = [
      keyOf(0),
      keyOf(1),
      keyOf(0, 1),
      keyOf(1, 0),
      keyOf(0, "1"),
      keyOf(0, "ab", "c"),
      keyOf(0, "a", "bc"),
      keyOf(0, "abc"),
      keyOf(0, ""),
    ];
    expect(new Set(keys.map((key) => `${key.k0}:${key.k1}`)).size).toBe(keys.length);
    expect(keyOf(-0)).toEqual(keyOf(0));
  });

  it("stays what it is, so that old runs resume", () => {
    expect(keyOf(42, "dropout", 3)).toMatchInlineSnapshot(`
      {
        "k0": 2333454352,
        "k1": 1309213273,
      }
    `);
  });

  it("refuses NaN", () => {
    expect(() => keyOf(Number.NaN)).toThrow("finite number");
  });
});

describe("fillUniform", () => {
  it("has the mean, variance and range of the uniform distribution", () => {
    const values = new Float32Array(200_000);
    fillUniform(values, keyOf(1), -2, 4);
    const { mean, variance } = moments(values);
    expect(Math.abs(mean - 1)).toBeLessThan(0.02);
    expect(Math.abs(variance - 3)).toBeLessThan(0.03);
    expect(values.every((x) => x >= -2 && x < 4)).toBe(true);
  });

  it("fills 64 bins evenly (chi-squared)", () => {
    const n = 128_000;
    const bins = new Array<number>(64).fill(0);
    for (const x of uniform(n, 5)) bins[Math.floor(x * 64)]!++;
    const chi2 = bins.reduce((sum, count) => sum + (count - n / 64) ** 2 / (n / 64), 0);
    expect(chi2).toBeGreaterThan(30); // 63 degrees of freedom: mean 63, deviation 11
    expect(chi2).toBeLessThan(110);
  });

  it("does not correlate between neighbouring seeds, steps or places", () => {
    const n = 100_000;
    const limit = 4.5 / Math.sqrt(n);
    for (let i = 0; i < 8; i++) {
      expect(Math.abs(correlation(uniform(n, i), uniform(n, i + 1)))).toBeLessThan(limit);
      expect(Math.abs(correlation(uniform(n, 7, "step", i), uniform(n, 7, "step", i + 1)))).toBeLessThan(limit);
    }
    const one = uniform(n + 1, 3);
    expect(Math.abs(correlation(one.subarray(0, n), one.subarray(1)))).toBeLessThan(limit);
  });

  it("gives a longer array the shorter one's beginning", () => {
    expect(uniform(1000, 9).subarray(0, 37)).toEqual(uniform(37, 9));
  });
});

describe("fillNormal", () => {
  it("has the moments of the normal distribution", () => {
    const values = new Float32Array(200_001);
    fillNormal(values, keyOf(2), 3, 0.5);
    const { mean, variance } = moments(values);
    expect(Math.abs(mean - 3)).toBeLessThan(0.005);
    expect(Math.abs(variance - 0.25)).toBeLessThan(0.004);
    const z = values.map((x) => (x - 3) / 0.5);
    expect(Math.abs(z.reduce((sum, x) => sum + x ** 3, 0) / z.length)).toBeLessThan(0.03);
    expect(Math.abs(z.reduce((sum, x) => sum + x ** 4, 0) / z.length - 3)).toBeLessThan(0.08);
    expect(Math.abs(correlation(values.subarray(0, 200_000), values.subarray(1)))).toBeLessThan(0.011);
  });
});

describe("fillDropoutMask", () => {
  it.each([0.1, 0.5, 0.3, 1 / 512, 0.999])("drops at rate %f and scales the rest", (rate) => {
    const mask = new Float32Array(400_003);
    fillDropoutMask(mask, keyOf(3, rate), rate);
    const dropped = mask.reduce((count, x) => count + (x === 0 ? 1 : 0), 0) / mask.length;
    expect(Math.abs(dropped - rate)).toBeLessThan(5 * Math.sqrt((rate * (1 - rate)) / mask.length));
    expect(new Set(mask)).toEqual(new Set([0, Math.fround(1 / (1 - rate))]));
  });

  it("keeps everything at rate 0 and refuses 1", () => {
    const mask = new Float32Array(5000);
    fillDropoutMask(mask, keyOf(1), 0);
    expect(mask.every((x) => x === 1)).toBe(true);
    expect(() => fillDropoutMask(mask, keyOf(1), 1)).toThrow("dropout rate");
  });

  it("depends on key and place only", () => {
    const [short, long, other] = [new Float32Array(21), new Float32Array(999), new Float32Array(999)];
    fillDropoutMask(short, keyOf(1, 4), 0.25);
    fillDropoutMask(long, keyOf(1, 4), 0.25);
    fillDropoutMask(other, keyOf(1, 5), 0.25);
    expect(long.subarray(0, 21)).toEqual(short);
    expect(Math.abs(correlation(long, other))).toBeLessThan(0.15);
  });
});

describe("randomInt and shuffled", () => {
  it("hits each choice equally often", () => {
    const counts = new Array<number>(7).fill(0);
    for (let i = 0; i < 14_000; i++) counts[randomInt(7, keyOf(1), i)]!++;
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200);
    expect(() => randomInt(0, keyOf(1))).toThrow("choices");
    const large = Array.from({ length: 100 }, (_, i) => randomInt(3_000_000_000, keyOf(2), i));
    expect(Math.max(...large)).toBeGreaterThan(2_900_000_000);
    expect(Math.max(...large)).toBeLessThan(3_000_000_000);
  });

  it("makes permutations, each of the 24 of four elements about as often", () => {
    expect(Array.from(shuffled(1000, keyOf(1))).sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect(shuffled(0, keyOf(1))).toHaveLength(0);
    const counts = new Map<string, number>();
    for (let i = 0; i < 12_000; i++) {
      const order = shuffled(4, keyOf(8, i)).join();
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    for (const count of counts.values()) expect(Math.abs(count - 500)).toBeLessThan(110);
  });

  it("differs by key", () => {
    expect(shuffled(50, keyOf(1))).not.toEqual(shuffled(50, keyOf(2)));
    expect(shuffled(50, keyOf(1))).toEqual(shuffled(50, keyOf(1)));
  });
});
