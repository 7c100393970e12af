import { expect, it } from "vitest";
import { batchesByLength } from "./collate.js";

const lengths = [5, 9, 2, 9, 5, 1];

it("puts the longest texts first, within so many padded places", () => {
  const reads = lengths.map(() => 1);
  expect(batchesByLength(lengths, reads, { places: 18, reads: 100 })).toEqual([[1, 3], [0, 4, 2], [5]]);
  expect(batchesByLength(lengths, reads, { places: 8, reads: 100 })).toEqual([[1], [3], [0], [4], [2, 5]]);
  expect(batchesByLength([], [], { places: 8, reads: 8 })).toEqual([]);
});

it("puts texts within so many rows that are read; one beyond stands alone", () => {
  expect(batchesByLength(lengths, [3, 7, 1, 2, 1, 1], { places: 100, reads: 5 })).toEqual([[1], [3, 0], [4, 2, 5]]);
});
