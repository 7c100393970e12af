import { describe, expect, it } from "vitest";
import { tableOf } from "../../test/tiny-model.fixture.js";
import type { Example } from "../tasks/task.js";
import { textClassification } from "../tasks/text-classification.js";
import { equalizedOdds, groupReport, groupsOf } from "./fairness.js";
import { bootstrapMetrics } from "./intervals.js";

const target = { kind: "classes", labels: ["no", "yes"] } as const;
const example = (label: number): Example => ({ ids: new Int32Array(1), typeIds: new Int32Array(1), truncated: false, labels: [label] });
/** Rows with these labels and answers. */
const judged = (truth: readonly number[], answers: readonly number[]) => ({
  task: textClassification,
  target,
  examples: truth.map(example),
  outputs: answers.map((answer) => Float32Array.of(answer === 0 ? 2 : -2, answer === 1 ? 2 : -2)),
});

describe("equalised odds", () => {
  it("is the largest difference of true and false positive rates", () => {
    // Counted by hand: group a has TPR 1/2 and FPR 1/3, b TPR 1 and FPR 1/2.
    const truth = [1, 1, 0, 0, 0, 1, 1, 1, 0, 0];
    const answers = [1, 0, 1, 0, 0, 1, 1, 1, 1, 0];
    const groups = [..."aaaaabbbbb"];
    expect(equalizedOdds(truth, answers, groups)).toBeCloseTo(0.5, 12);
    expect(equalizedOdds(truth, truth, groups)).toBe(0);
  });

  it("of more classes takes each one against the rest, and leaves out rates without rows", () => {
    // Class 2 occurs in b only, so its true positive rate cannot be compared; class 0 is found in all of a, in half of b.
    expect(equalizedOdds([0, 1, 0, 0, 1, 2], [0, 1, 0, 1, 1, 2], [..."aabbbb"])).toBeCloseTo(0.5, 12);
    expect(equalizedOdds([0, 1], [0, 1], ["a", "b"])).toBeNull();
  });
});

describe("group report", () => {
  const truth = Array.from({ length: 60 }, (_, i) => i % 2);
  const groups = truth.map((_, i) => (i < 40 ? "a" : i < 56 ? "b" : "few"));
  const answers = truth.map((label, i) => (i >= 40 && i % 4 === 0 ? 1 - label : label)); // b: 4 of 16 wrong, all of them label 0
  const report = groupReport(judged(truth, answers), "who", groups, { resamples: 200 });

  it("has each group's metrics with intervals, and the gaps of those large enough", () => {
    expect(report.groups.map(({ group, rows, counted }) => [group, rows, counted])).toEqual([
      ["a", 40, true],
      ["b", 16, true],
      ["few", 4, false],
    ]);
    expect(report.groups[0]!.metrics.accuracy).toEqual({ value: 1, low: 1, high: 1 });
    const { value, low, high } = report.groups[1]!.metrics.accuracy!;
    expect(value).toBe(0.75);
    expect(low).toBeGreaterThan(0.3);
    expect(low).toBeLessThan(0.7);
    expect(high).toBeGreaterThan(0.8);
    expect(report.gaps.accuracy).toBeCloseTo(0.25, 12);
    expect(report.equalized_odds_difference).toBeCloseTo(0.5, 12); // label 0 of b: 4 of 8 found
  });

  it("refuses groups that are all too small", () => {
    const small = (): unknown => groupReport(judged(truth.slice(0, 12), answers.slice(0, 12)), "who", [..."aaaabbbbcccc"]);
    expect(small).toThrow(/too small: a 4, b 4, c 4/);
    // before anything is trained
    expect(() => groupsOf(tableOf([..."aaaabbbbcccc"].map((who) => ({ text: "t", who }))), "who")).toThrow(/too small: a 4, b 4, c 4/);
  });

  it("refuses a missing column, with a guess, and one value", () => {
    const table = tableOf([
      { text: "a", target: "x" },
      { text: "b", target: "x" },
    ]);
    expect(() => groupsOf(table, "taget")).toThrow(/rows.jsonl:1: no column "taget" to group by; there are: "text", "target"/);
    expect(() => groupsOf(table, "target")).toThrow(/all rows have "x" as their "target"/);
  });
});

it("intervals hold the value, and are the same for the same seed", () => {
  const truth = Array.from({ length: 50 }, (_, i) => i % 2);
  const rows = judged(
    truth,
    truth.map((label, i) => (i % 5 === 0 ? 1 - label : label)),
  );
  const first = bootstrapMetrics(rows, { resamples: 300, seed: 1 });
  expect(first.estimates.accuracy!.value).toBe(0.8);
  expect(first.estimates.accuracy!.low!).toBeLessThan(0.8);
  expect(first.estimates.accuracy!.high!).toBeGreaterThan(0.8);
  expect(bootstrapMetrics(rows, { resamples: 300, seed: 1 })).toEqual(first);
  expect(bootstrapMetrics(rows, { resamples: 300, seed: 2 }).replicates.accuracy).not.toEqual(first.replicates.accuracy);
});
