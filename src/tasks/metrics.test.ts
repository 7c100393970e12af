import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { accuracy, averageRanks, confusion, correlationTally, macroF1, matthews, mse, pearson, spearman } from "./metrics.js";

interface Golden {
  readonly classification: readonly {
    readonly name: string;
    readonly truth: number[];
    readonly predicted: number[];
    readonly accuracy: number;
    readonly macroF1: number;
    readonly matthews: number;
    readonly labels: number[];
    readonly confusion: number[][];
  }[];
  readonly regression: readonly {
    readonly name: string;
    readonly truth: number[];
    readonly predicted: number[];
    readonly mse: number;
    readonly pearson: number | null;
    readonly spearman: number | null;
    readonly ranks: number[];
  }[];
}

const golden: Golden = JSON.parse(readFileSync(new URL("./fixtures/metrics.json", import.meta.url), "utf8"));

function expectNear(actual: number | null, expected: number | null): void {
  if (expected === null) expect(actual).toBeNull();
  else expect(Math.abs(actual! - expected)).toBeLessThan(1e-12 * Math.max(1, Math.abs(expected)));
}

const column = (values: readonly number[]): readonly number[][] => values.map((value) => [value]);

describe("classification metrics equal scikit-learn's", () => {
  it.each(golden.classification)("$name", (c) => {
    expectNear(accuracy(c.truth, c.predicted), c.accuracy);
    expectNear(macroF1(c.truth, c.predicted), c.macroF1);
    expectNear(matthews(c.truth, c.predicted), c.matthews);
    expect(confusion(c.truth, c.predicted)).toEqual({ labels: c.labels, counts: c.confusion });
  });
});

describe("regression metrics equal scipy's and scikit-learn's", () => {
  it.each(golden.regression)("$name", (c) => {
    expectNear(mse(c.truth, c.predicted), c.mse);
    expectNear(pearson(c.truth, c.predicted), c.pearson);
    expectNear(spearman(c.truth, c.predicted), c.spearman);
    expect(averageRanks(c.predicted)).toEqual(c.ranks);
  });

  it.each(golden.regression)("the correlation of sums over rows, $name", (c) => {
    const rows = correlationTally.of(column(c.predicted), column(c.truth));
    const sums = Array.from({ length: 6 }, (_, k) => rows.reduce((sum, row) => sum + row[k]!, 0));
    expect(Math.abs(correlationTally.score(sums) - (c.pearson ?? 0))).toBeLessThan(1e-12);
  });
});

describe("no rows, one row, unequal lengths", () => {
  it("never gives NaN", () => {
    expect([accuracy([], []), macroF1([], []), matthews([], []), mse([], [])]).toEqual([0, 0, 0, 0]);
    expect([pearson([], []), spearman([], []), pearson([1], [2]), spearman([1], [2])]).toEqual([null, null, null, null]);
  });

  it("refuses unequal lengths", () => {
    for (const metric of [accuracy, macroF1, matthews, pearson, spearman, mse]) expect(() => metric([1, 2], [1])).toThrow(/2 truths but 1/);
  });
});
