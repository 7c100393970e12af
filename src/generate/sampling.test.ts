import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { keyOf } from "../core/random.js";
import { generationOptions, type SamplingOptions } from "./options.js";
import { candidates, penalizeRepetition, sample } from "./sampling.js";

interface Golden {
  readonly seen: readonly number[];
  readonly rows: readonly (readonly number[])[];
  readonly cases: readonly (SamplingOptions & { readonly row: number; readonly kept: Readonly<Record<string, number>> })[];
}
const golden = JSON.parse(readFileSync(new URL("fixtures/sampling.json", import.meta.url), "utf8")) as Golden;

describe("candidates", () => {
  it("are transformers', with their probabilities", () => {
    expect(golden.cases.length).toBeGreaterThan(300);
    for (const { row, kept, ...options } of golden.cases) {
      const logits = Float32Array.from(golden.rows[row]!);
      if (options.repetition_penalty !== 1) penalizeRepetition(logits, golden.seen, options.repetition_penalty);
      const { ids, probabilities } = candidates(logits, options);
      const what = JSON.stringify({ row, ...options });
      expect(
        Array.from(ids, String).filter((_, i) => probabilities[i]! > 1e-38),
        what,
      ).toEqual(Object.keys(kept));
      for (const [i, id] of ids.entries()) expect(Math.abs(probabilities[i]! - kept[id]!), what).toBeLessThan(1e-6);
    }
  });
});

describe("sample", () => {
  const logits = [1, 3, 2, -1];
  const options = (fields: object): SamplingOptions => generationOptions.parse(fields);

  it("takes the likeliest token at temperature 0, after the penalty", () => {
    expect(sample(Float32Array.from(logits), [], options({}), keyOf(0), 0)).toBe(1);
    expect(sample(Float32Array.from(logits), [1], options({ repetition_penalty: 2 }), keyOf(0), 0)).toBe(2);
    expect(sample(Float32Array.from([-1, -1.5]), [0], options({ repetition_penalty: 2 }), keyOf(0), 0)).toBe(1);
  });

  it("draws each token as often as its probability says, the same for the same key", () => {
    const draws = Array.from({ length: 4000 }, (_, i) => sample(Float32Array.from(logits), [], options({ temperature: 1 }), keyOf(1), i));
    const { ids, probabilities } = candidates(Float32Array.from(logits), options({ temperature: 1 }));
    for (const [i, id] of ids.entries()) {
      const share = draws.filter((each) => each === id).length / draws.length;
      expect(Math.abs(share - probabilities[i]!)).toBeLessThan(0.03);
    }
    expect(sample(Float32Array.from(logits), [], options({ temperature: 1 }), keyOf(1), 7)).toBe(draws[7]);
    const others = draws.map((_, i) => sample(Float32Array.from(logits), [], options({ temperature: 1 }), keyOf(2), i));
    expect(others).not.toEqual(draws);
  });
});
