import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { learningRateAt, type Schedule, warmupSteps } from "./schedule.js";

interface Golden {
  readonly schedules: readonly (Schedule & { readonly rates: number[] })[];
  readonly warmup: readonly { readonly ratio: number; readonly total_steps: number; readonly warmup_steps: number }[];
}

const golden: Golden = JSON.parse(readFileSync(new URL("./fixtures/schedules.json", import.meta.url), "utf8"));

describe("learningRateAt", () => {
  it.each(golden.schedules)("equals transformers: $type, $warmup_steps of $total_steps", ({ rates, ...schedule }) => {
    expect(rates.length).toBe(schedule.total_steps + 2);
    rates.forEach((rate, step) => {
      expect(Math.abs(learningRateAt(step, schedule) - rate)).toBeLessThan(1e-15);
    });
  });
});

describe("warmupSteps", () => {
  it.each(golden.warmup)("rounds up as TrainingArguments: $ratio of $total_steps", ({ ratio, total_steps, warmup_steps }) => {
    expect(warmupSteps(ratio, total_steps)).toBe(warmup_steps);
  });

  it("refuses what is no share", () => {
    expect(() => warmupSteps(30, 100)).toThrow(/between 0 and 1, got 30/);
    expect(() => warmupSteps(Number.NaN, 100)).toThrow(/between 0 and 1/);
  });
});
