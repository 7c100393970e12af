import { describe, expect, it } from "vitest";
import { tokenClassification } from "../tasks/token-classification.js";
import type { CellResult } from "./cell.js";
import { found, madeUpCell, madeUpRows } from "./summary.fixture.js";
import { summarize } from "./summary.js";

describe("findings", () => {
  it("name the best method where the data shows it, and say so", () => {
    const cells = [madeUpCell("lora", 0, 300, 0.95, 300), madeUpCell("head", 0, 300, 0.6, 300)];
    const { methods, tests, sentences, recommendation } = found(cells, 300);
    expect(methods.map(({ method }) => method)).toEqual(["lora", "head"]);
    expect(tests).toHaveLength(1);
    expect(tests[0]!.adjusted).toBeLessThan(1e-6);
    expect(sentences).toEqual([]);
    expect(recommendation).toHaveLength(2);
    expect(recommendation[0]).toMatch(/^For accuracy, take lora \(accuracy 0\.9\d+, 95 % interval .*larger than chance explains/);
  });

  it("say plainly what the data can't tell apart, and recommend the smaller of those", () => {
    const cells = [madeUpCell("prefix", 0, 300, 0.9, 120), madeUpCell("lora", 0, 300, 0.9, 120), madeUpCell("ia3", 0, 300, 0.5, 120)];
    const { sentences, recommendation, methods } = found(cells, 120);
    const [best, second] = methods.map(({ method }) => method);
    expect(sentences).toEqual([
      `The data can't tell ${best} from ${second}: the differences on these 120 rows are no larger than chance makes them.`,
    ]);
    expect(recommendation[0]).toContain(`can't tell from ${second}`);
    expect(recommendation[1]).toContain("for the smallest file take lora (4.0 kB)");
  });

  it("do not test on too few rows", () => {
    const { tests, sentences } = found([madeUpCell("lora", 0, 30, 0.9, 12 * 2 - 5), madeUpCell("ia3", 0, 30, 0.2, 19)], 19);
    expect(tests).toEqual([]);
    expect(sentences).toEqual(["19 evaluation rows are too few for a test (20 are needed): the figures' order may be chance."]);
  });

  it("are means over seeds at the largest size, with an interval of the mean", () => {
    const seeds = [madeUpCell("lora", 0, 300, 0.8, 200), madeUpCell("lora", 1, 300, 0.8, 200)];
    const { methods, curves } = found([...seeds, madeUpCell("lora", 0, 50, 0.5, 200)], 200);
    const [lora] = methods;
    const [a, b] = seeds.map(({ metrics }) => metrics.accuracy!.value!);
    expect(lora!.score.value).toBeCloseTo((a! + b!) / 2, 12);
    expect(lora!.score.high! - lora!.score.low!).toBeLessThan(seeds[0]!.metrics.accuracy!.high! - seeds[0]!.metrics.accuracy!.low!);
    expect(lora!.seed_deviation).toBeCloseTo(Math.abs(a! - b!) / Math.SQRT2, 12);
    expect(curves.map(({ size, seeds: count }) => [size, count])).toEqual([
      [50, 1],
      [300, 2],
    ]);
  });

  it("say so where no method beats one answer for all rows", () => {
    const { sentences } = found([madeUpCell("lora", 0, 300, 0.25, 90), madeUpCell("ia3", 0, 300, 0.1, 90)], 90);
    expect(sentences.at(-1)).toMatch(/^No method is shown to be better than always answering "card" \(accuracy 0\.333\)/);
  });

  it("test the metric itself where it is no mean over rows: a method that names no entity is told from one that finds some", () => {
    const target = { kind: "classes", labels: ["O", "B-place"] } as const;
    // 40 of 120 rows have an entity; "finder" has 20 of them right, misses 20, and invents one in 20 others: as many whole rows right as "silent"
    const truth = Array.from({ length: 120 }, (_, i) => [0, i % 3 === 0 ? 1 : 0]);
    const finds = truth.map((_, i) => [0, i % 6 === 0 || i % 6 === 1 ? 1 : 0]);
    const silent = truth.map(() => [0, 0]);
    const cellOf = (method: string, answers: readonly (readonly number[])[], f1: number): CellResult => ({
      ...madeUpCell(method, 0, 300, 0.5, 120),
      ...{ answers, truth, metrics: { f1: { value: f1, low: f1, high: f1 } }, replicates: [f1, f1] },
      outcomes: answers.map((each, i) => (each[1] === truth[i]![1] ? 1 : 0)),
    });
    const cells = [cellOf("finder", finds, 0.5), cellOf("silent", silent, 0)];
    const { tests, sentences } = summarize(
      { searches: [], cells, refused: [], dropped: [], interrupted: false },
      tokenClassification,
      target,
      madeUpRows(120),
    );
    expect(cells.map(({ outcomes }) => outcomes.filter((each) => each === 1).length)).toEqual([80, 80]);
    expect(tests[0]).toMatchObject({ difference: 0.5, test: "paired permutation" });
    expect(tests[0]!.adjusted).toBeLessThan(1e-3);
    expect(sentences).toEqual([]);
  });

  it("mark the Pareto front", () => {
    const cells = [madeUpCell("aa", 0, 300, 0.7, 300), madeUpCell("bbb", 0, 300, 0.4, 300), madeUpCell("cccc", 0, 300, 0.99, 300)];
    const front = found(cells, 300).methods.filter(({ pareto }) => pareto);
    expect(front.map(({ method }) => method)).toEqual(["cccc", "aa"]);
  });

  it("show the rows that most methods get wrong first, and the best method's confusions", () => {
    const { mistakes, confusion, methods } = found([madeUpCell("lora", 0, 300, 0.9, 90), madeUpCell("ia3", 0, 300, 0.7, 90)], 90);
    const wrong = mistakes.map(({ answers }) => answers.filter((each) => each.wrong).length);
    expect(wrong).toEqual([...wrong].sort((a, b) => b - a));
    expect(wrong[0]).toBe(2);
    expect(confusion!.method).toBe(methods[0]!.method);
    expect(confusion!.counts.flat().reduce((a, b) => a + b, 0)).toBe(90);
  });
});
