import { describe, expect, it } from "vitest";
import { rope } from "./rope.js";

const base = { max_position_embeddings: 128 };

describe("frequencies", () => {
  it("are theta to the power of -2i/K, theta being 10000 where nothing is said", () => {
    expect(rope(base, 4)).toEqual({ frequencies: [1, 0.01], scale: 1 });
    expect(rope({ ...base, rope_theta: 100 }, 4).frequencies[1]).toBeCloseTo(0.1, 12);
  });

  it("are read in both spellings, the newer one first", () => {
    const older = rope({ ...base, rope_theta: 100, rope_scaling: { type: "linear", factor: 2 } }, 4);
    const newer = rope({ ...base, rope_parameters: { rope_type: "linear", rope_theta: 100, factor: 2 } }, 4);
    expect(older).toEqual(newer);
    expect(newer.frequencies[0]).toBe(0.5);
    expect(newer.frequencies[1]).toBeCloseTo(0.05, 12);
  });

  it("of dynamic rope are the default's within the model's positions", () => {
    expect(rope({ ...base, rope_scaling: { rope_type: "dynamic", factor: 4 } }, 8)).toEqual(rope(base, 8));
  });

  it("of YaRN scale cosines and sines by 0.1·ln(factor) + 1, or by what the config says", () => {
    const yarn = (fields: object) =>
      rope({ ...base, rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32, ...fields } }, 8).scale;
    expect(yarn({})).toBeCloseTo(0.1 * Math.log(4) + 1, 12);
    expect(yarn({ attention_factor: 1.5 })).toBe(1.5);
    expect(yarn({ mscale: 2, mscale_all_dim: 1 })).toBeCloseTo((0.2 * Math.log(4) + 1) / (0.1 * Math.log(4) + 1), 12);
  });
});

describe("refusals", () => {
  it.each<[fields: object, error: RegExp]>([
    [{ rope_scaling: { rope_type: "longrope" } }, /rope_type "longrope" is not supported/],
    [{ rope_scaling: { rope_type: "linear" } }, /rope_type "linear" needs "factor"/],
    [{ rope_scaling: { rope_type: "llama3", factor: 8 } }, /rope_type "llama3" needs "low_freq_factor"/],
    [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor 0.5 is not supported/],
  ])("%j", (fields, error) => {
    expect(() => rope({ ...base, ...fields }, 8)).toThrow(error);
  });
});
