import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { keyOf, uniformAt } from "../core/random.js";
import { entityF1 } from "../tasks/entities.js";
import { correlationTally } from "../tasks/metrics.js";
import {
  erfc,
  exchangePermutation,
  holm,
  mcnemar,
  pairedPermutation,
  pairedTest,
  percentileInterval,
  replicates,
  resampledRows,
} from "./statistics.js";

interface Golden {
  readonly intervals: readonly { name: string; data: number[]; rows: number[][]; level: number; low: number; high: number }[];
  readonly mcnemar: readonly { a: number; b: number; exact: number; corrected: number | null }[];
  readonly permutation: readonly { name: string; differences: number[]; exact: boolean; p: number }[];
  readonly exchange: readonly { name: string; first: number[][][]; second: number[][][]; exact: boolean; p: number }[];
  readonly correlation: readonly { name: string; first: number[][]; second: number[][]; truth: number[]; exact: boolean; p: number }[];
  readonly holm: readonly { p: number[]; adjusted: number[] }[];
  readonly erfc: readonly { x: number; y: number }[];
}

const golden = JSON.parse(readFileSync(new URL("fixtures/statistics.json", import.meta.url), "utf8")) as Golden;
const f1 = (sums: readonly number[]): number => entityF1([sums[0]!, sums[1]!, sums[2]!]);
const column = (values: readonly number[]): readonly (readonly number[])[] => values.map((value) => [value]);
const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

describe("as scipy and statsmodels", () => {
  it.each(golden.intervals)("percentile interval: $name", ({ data, rows, level, low, high }) => {
    const found = percentileInterval(
      rows.map((each) => mean(each.map((row) => data[row]!))),
      level,
    )!;
    expect(found.low).toBeCloseTo(low, 12);
    expect(found.high).toBeCloseTo(high, 12);
  });

  it.each(golden.mcnemar)("McNemar: $a against $b", ({ a, b, exact, corrected }) => {
    const { p, test } = mcnemar(a, b);
    const few = a + b < 25;
    expect(test).toBe(few ? "McNemar, exact" : "McNemar, chi-squared with continuity correction");
    // statsmodels lets |a − b| − 1 fall below 0 where both are equal; the correction ends at 0 (Edwards 1948), which makes p 1.
    expect(Math.abs(p - (few ? exact : (corrected ?? 1)))).toBeLessThan(1e-12);
  });

  it.each(golden.permutation)("paired permutation: $name", ({ differences, exact, p }) => {
    const found = pairedPermutation(differences, 3);
    expect(found.test).toBe(exact ? "paired permutation, exact" : "paired permutation");
    expect(Math.abs(found.p - p)).toBeLessThan(exact ? 1e-12 : 4 * Math.sqrt((p * (1 - p)) / 10_000));
  });

  it.each(golden.exchange)("paired permutation of F1: $name", ({ first, second, exact, p }) => {
    const found = exchangePermutation(first, second, f1, 3);
    expect(found.test).toBe(exact ? "paired permutation, exact" : "paired permutation");
    expect(Math.abs(found.p - p)).toBeLessThan(exact ? 1e-12 : 4 * Math.sqrt((p * (1 - p)) / 10_000) + 1e-4);
  });

  it.each(golden.correlation)("paired permutation of Pearson's correlation: $name", ({ first, second, truth, exact, p }) => {
    const counts = (seeds: readonly number[][]) => seeds.map((answers) => correlationTally.of(column(answers), column(truth)));
    const found = exchangePermutation(counts(first), counts(second), correlationTally.score, 3);
    expect(found.test).toBe(exact ? "paired permutation, exact" : "paired permutation");
    expect(Math.abs(found.p - p)).toBeLessThan(exact ? 1e-12 : 4 * Math.sqrt((p * (1 - p)) / 10_000 + (p * (1 - p)) / 20_000) + 1e-4);
  });

  it.each(golden.holm)("Holm: $p", ({ p, adjusted }) => {
    for (const [i, value] of holm(p).entries()) expect(value).toBeCloseTo(adjusted[i]!, 12);
  });

  it.each(golden.erfc)("erfc($x)", ({ x, y }) => {
    expect(Math.abs(erfc(x) - y)).toBeLessThan(x < 3 ? 1e-14 : 1e-10 * y);
  });
});

describe("bootstrap", () => {
  it("draws rows evenly, the same ones for the same key", () => {
    const key = keyOf(1, "test");
    const counts = new Float64Array(10);
    for (let b = 0; b < 2000; b++) for (const row of resampledRows(10, key, b)) counts[row]! += 1;
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(5 * Math.sqrt(2000));
    expect(resampledRows(10, key, 7)).toEqual(resampledRows(10, key, 7));
    expect(resampledRows(10, key, 7)).not.toEqual(resampledRows(10, key, 8));
  });

  it("covers the truth about as often as it says", () => {
    let covered = 0;
    for (let trial = 0; trial < 300; trial++) {
      const key = keyOf(trial, "rows");
      const data = Array.from({ length: 100 }, (_, i) => (uniformAt(key, i) < 0.7 ? 1 : 0));
      const { low, high } = percentileInterval(replicates(100, 300, trial, (rows) => mean(Array.from(rows, (row) => data[row]!))))!;
      if (low <= 0.7 && high >= 0.7) covered++;
    }
    expect(covered / 300).toBeGreaterThan(0.95 - 3 * Math.sqrt((0.95 * 0.05) / 300));
  });

  it("has no interval where nothing is defined", () => expect(percentileInterval([Number.NaN, Number.NaN, 1])).toBeNull());
});

describe("paired tests of outcomes", () => {
  it("are McNemar's for right and wrong, permutation for anything between", () => {
    expect(pairedTest([1, 1, 0], [0, 1, 0], 0)).toEqual(mcnemar(1, 0));
    expect(pairedTest([1, 0.5, 0], [0, 1, 0], 0)).toEqual(pairedPermutation([1, -0.5, 0], 0));
    expect(() => pairedTest([1], [1, 0], 0)).toThrow(/1 and 2 rows/);
  });

  it("see a true difference", () => {
    const first = Array.from({ length: 200 }, (_, i) => (i % 10 === 0 ? 0 : 1));
    const second = Array.from({ length: 200 }, (_, i) => (i % 4 === 0 ? 0 : 1));
    expect(pairedTest(first, second, 0).p).toBeLessThan(1e-3);
    expect(
      pairedTest(
        first,
        second.map((x) => x / 2),
        0,
      ).p,
    ).toBeLessThan(1e-3);
  });

  const most = 0.05 + 2 * Math.sqrt((0.05 * 0.95) / 1000);
  /** The share of 1,000 comparisons of four equal methods on 120 rows in which any pair's adjusted p is below 0.05; `seeds` outcomes a row are averaged. */
  const falseAlarms = (seeds: number): number => {
    let alarms = 0;
    for (let trial = 0; trial < 1000; trial++) {
      const key = keyOf(trial, "equal methods", seeds);
      let drawn = 0;
      const ease = Array.from({ length: 120 }, () => 0.4 + 0.6 * uniformAt(key, drawn++));
      const methods = Array.from({ length: 4 }, () =>
        ease.map((p) => mean(Array.from({ length: seeds }, () => (uniformAt(key, drawn++) < p ? 1 : 0)))),
      );
      const pairs = methods.flatMap((a, i) => methods.slice(i + 1).map((b) => pairedTest(a, b, trial, 199).p));
      if (holm(pairs).some((p) => p < 0.05)) alarms++;
    }
    return alarms / 1000;
  };

  it("of correlations raise a false alarm no more than one time in twenty, though one method answers on a wider scale", () => {
    let alarms = 0;
    for (let trial = 0; trial < 1000; trial++) {
      const key = keyOf(trial, "equal correlations");
      const at = (row: number, part: number): number => uniformAt(key, 3 * row + part);
      const truth = Array.from({ length: 60 }, (_, row) => at(row, 0));
      const [first, second] = [1, 5].map((scale, i) => [
        correlationTally.of(column(truth.map((y, row) => scale * (y + at(row, i + 1)))), column(truth)),
      ]);
      if (exchangePermutation(first!, second!, correlationTally.score, trial, 199).p < 0.05) alarms++;
    }
    expect(alarms / 1000).toBeLessThanOrEqual(most);
  });

  it.each([
    ["McNemar", 1],
    ["permutation, three seeds", 3],
  ])("false alarms about equal methods are no more than one in twenty: %s", (_, seeds) => {
    expect(falseAlarms(seeds)).toBeLessThanOrEqual(most);
  });
});
