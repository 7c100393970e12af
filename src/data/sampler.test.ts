import { describe, expect, it } from "vitest";
import { fillUniform, keyOf } from "../core/random.js";
import { epochBatches } from "./sampler.js";

const noise = new Float32Array(5003);
fillUniform(noise, keyOf(1, "lengths"), 0, 1);
const lengths = Int32Array.from(noise, (x) => 5 + Math.floor(120 * x ** 3));
const options = { lengths, batchSize: 16, seed: 7, epoch: 0, groupByLength: true };

/** Padded places over real tokens. */
function padding(batches: readonly Int32Array[]): number {
  const places = batches.reduce((sum, batch) => sum + batch.length * Math.max(...Array.from(batch, (row) => lengths[row]!)), 0);
  return places / lengths.reduce((sum, length) => sum + length, 0);
}

describe.each([true, false])("epochBatches, grouped by length: %s", (groupByLength) => {
  it("gives every row once, in full batches but one", () => {
    const batches = epochBatches({ ...options, groupByLength });
    expect(batches.flatMap((batch) => Array.from(batch)).sort((a, b) => a - b)).toEqual(Array.from({ length: 5003 }, (_, i) => i));
    expect(batches.filter((batch) => batch.length !== 16).map((batch) => batch.length)).toEqual([5003 % 16]);
  });

  it("depends on seed and epoch and on nothing else", () => {
    const first = epochBatches({ ...options, groupByLength });
    expect(epochBatches({ ...options, groupByLength, lengths: Array.from(lengths) })).toEqual(first);
    expect(epochBatches({ ...options, groupByLength, epoch: 1 })).not.toEqual(first);
    expect(epochBatches({ ...options, groupByLength, seed: 8 })).not.toEqual(first);
  });

  it("does not order batches by length", () => {
    const longest = epochBatches({ ...options, groupByLength }).map((batch) => Math.max(...Array.from(batch, (row) => lengths[row]!)));
    const half = longest.length >> 1;
    const mean = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / values.length;
    expect(Math.abs(mean(longest.slice(0, half)) - mean(longest.slice(half)))).toBeLessThan(15);
  });

  it("takes no rows, and fewer rows than a batch", () => {
    expect(epochBatches({ ...options, groupByLength, lengths: [] })).toEqual([]);
    expect(epochBatches({ ...options, groupByLength, lengths: [3, 9] })).toHaveLength(1);
  });
});

describe("epochBatches", () => {
  it("wastes less on padding when grouped", () => {
    expect(padding(epochBatches({ ...options, groupByLength: false }))).toBeGreaterThan(2);
    expect(padding(epochBatches(options))).toBeLessThan(1.1);
  });

  it("puts a row's companions together anew in each epoch", () => {
    const companions = (epoch: number): number[] =>
      Array.from(epochBatches({ ...options, epoch }).find((batch) => batch.includes(0))!).sort((a, b) => a - b);
    expect(companions(0)).not.toEqual(companions(1));
  });

  it("refuses a batch size that is none", () => {
    for (const batchSize of [0, -1, 1.5, Number.NaN]) expect(() => epochBatches({ ...options, batchSize })).toThrow("batch size");
  });
});

describe.each([true, false])("a budget of tokens, grouped by length: %s", (groupByLength) => {
  const budgeted = { ...options, groupByLength, maxTokens: 900 };
  const tokensOf = (batch: Int32Array): number => batch.reduce((sum, row) => sum + lengths[row]!, 0);

  it("gives every row once, in batches within the budget that are nearly full", () => {
    const batches = epochBatches(budgeted);
    expect(batches.flatMap((batch) => Array.from(batch)).sort((a, b) => a - b)).toEqual(Array.from({ length: 5003 }, (_, i) => i));
    expect(Math.max(...batches.map(tokensOf))).toBeLessThanOrEqual(900);
    expect(batches.reduce((sum, batch) => sum + tokensOf(batch), 0) / batches.length).toBeGreaterThan(0.92 * 900);
  });

  it("depends on seed and epoch and not on the batch size", () => {
    expect(epochBatches({ ...budgeted, batchSize: 1 })).toEqual(epochBatches(budgeted));
    expect(epochBatches({ ...budgeted, epoch: 1 })).not.toEqual(epochBatches(budgeted));
    expect(epochBatches({ ...budgeted, seed: 8 })).not.toEqual(epochBatches(budgeted));
  });

  it("takes rows of exactly the budget, each by itself, and no rows", () => {
    expect(epochBatches({ ...budgeted, lengths: [900, 900, 1] })).toHaveLength(3);
    expect(epochBatches({ ...budgeted, lengths: [] })).toEqual([]);
  });

  it("refuses rows that are longer, and says how many there are and how long", () => {
    expect(() => epochBatches({ ...budgeted, lengths: [3, 901, 1200, 4] })).toThrow(
      "max_tokens_per_batch is 900, but 2 rows are longer, the longest of 1200 tokens",
    );
  });
});

it("a budget of tokens puts rows of like length together when grouped", () => {
  const maxTokens = 900;
  expect(padding(epochBatches({ ...options, maxTokens, groupByLength: false }))).toBeGreaterThan(2);
  expect(padding(epochBatches({ ...options, maxTokens }))).toBeLessThan(1.15);
});
