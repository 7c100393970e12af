import { describe, expect, it } from "vitest";
import type { Example } from "../tasks/task.js";
import { textClassification } from "../tasks/text-classification.js";
import { planSteps, type StepPlan } from "./data.js";
import { trainingOptions } from "./options.js";

/** Rows of 3 to 40 tokens, all unlike their neighbours; the first token tells them apart. */
const examples: readonly Example[] = Array.from({ length: 60 }, (_, row) => {
  const ids = new Int32Array(3 + ((row * 29) % 38)).fill(1);
  ids[0] = row;
  return { ids, typeIds: new Int32Array(ids.length), labels: [row % 2], truncated: false };
});
const head = { task: textClassification, target: { kind: "classes" as const, labels: ["a", "b"] } };
const packing = { virtualTokens: 2, firstPosition: 0, summary: "first" as const };
const plan = (options: object): StepPlan => planSteps(head, packing, examples, trainingOptions.parse(options));

/** The rows that a step's batches hold. */
function rowsOf(steps: StepPlan, step: number): readonly number[] {
  return steps.prepare(step).flatMap(({ feeds }) => {
    const ids = Array.from(feeds.ids!.data as Int32Array);
    const lengths = Array.from(feeds.lengths!.data as Int32Array, (length) => length - packing.virtualTokens);
    return lengths.map((_, text) => ids[lengths.slice(0, text).reduce((sum, length) => sum + length, 0)]!);
  });
}
const every = Array.from({ length: 60 }, (_, row) => row);

describe.each([
  ["rows", { batch_size: 7 }],
  ["tokens", { max_tokens_per_batch: 100 }],
  ["tokens, ungrouped, accumulated", { max_tokens_per_batch: 100, group_by_length: false, gradient_accumulation_steps: 3 }],
])("planSteps by %s", (_, sizes) => {
  const steps = plan({ ...sizes, epochs: 5 });

  it("sees every row once an epoch, and knows where epochs end", () => {
    expect(Number.isInteger(steps.epochAt(steps.total))).toBe(true);
    const seen: number[][] = [[], [], [], [], []];
    for (let step = 0; step < steps.total; step++) seen[Math.floor(steps.epochAt(step))]!.push(...rowsOf(steps, step));
    for (const rows of seen) expect(rows.sort((a, b) => a - b)).toEqual(every);
    expect(steps.epochAt(steps.perEpoch)).toBe(1);
    expect(steps.epochAt(steps.total)).toBe(5);
  });

  it("prepares a step alike, whatever was asked before", () => {
    const last = steps.total - 1;
    const fresh = plan({ ...sizes, epochs: 5 });
    expect(fresh.prepare(last)).toEqual(steps.prepare(last));
    expect(fresh.prepare(0)).toEqual(steps.prepare(0));
  });

  it("weighs all rows of a step alike", () => {
    const batches = steps.prepare(1);
    const rows = batches.reduce((sum, { texts }) => sum + texts, 0);
    for (const { feeds } of batches) expect(feeds.lossScale!.data[0]).toBeCloseTo(1 / rows, 6);
  });
});

describe("planSteps with a budget of tokens", () => {
  it("counts virtual tokens, and differs in steps from epoch to epoch", () => {
    const steps = plan({ max_tokens_per_batch: 100, group_by_length: false, epochs: 8 });
    for (let step = 0; step < steps.total; step++) {
      const [batch] = steps.prepare(step);
      expect(batch!.tokens + 2 * batch!.texts).toBeLessThanOrEqual(100);
    }
    expect(steps.total).not.toBe(8 * steps.perEpoch);
  });

  it("refuses rows that are longer with their virtual tokens", () => {
    expect(() => plan({ max_tokens_per_batch: 41 })).toThrow("max_tokens_per_batch is 41, but 2 rows are longer, the longest of 42 tokens");
    expect(() => plan({ max_tokens_per_batch: 42 })).not.toThrow();
  });
});

it.each([
  [2, 120],
  [2.1, 126],
  [0.05, 3],
  [1.5, 90],
])("%s epochs of 60 batches are %i steps", (epochs, total) => {
  expect(plan({ batch_size: 1, epochs }).total).toBe(total);
});
