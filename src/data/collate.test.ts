import { expect, it } from "vitest";
import { batchesByLength, packTexts } from "./collate.js";

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

it("lays short texts behind one another in strips as wide as the longest", () => {
  const text = (length: number) => ({ ids: Int32Array.from({ length }, (_, i) => i), typeIds: new Int32Array(length) });
  const { feeds } = packTexts([2, 5, 1, 3].map(text));
  const of = (name: string): readonly number[] => Array.from(feeds[name]!.data as Int32Array);
  expect(feeds["strips:texts"]!.shape).toEqual([3, 5]);
  expect(of("strips:texts")).toEqual([1, 1, 1, 1, 1, 3, 3, 3, 0, 0, 2, -1, -1, -1, -1]);
  expect(of("strips:positions")).toEqual([0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 0, 0, 0, 0, 0]);
  expect(of("strips:padIndex")).toEqual([2, 3, 4, 5, 6, 8, 9, 10, 0, 1, 7, 7, 7, 7, 7]);
  expect(of("strips:tokenIndex")).toEqual([8, 9, 0, 1, 2, 3, 4, 10, 5, 6, 7]);
  expect(of("strips:lengths")).toEqual([5, 5, 1]);
  expect(of("strips:rowMask")).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);
  expect(of("padIndex")).toEqual([0, 1, 0, 0, 0, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 8, 9, 10, 8, 8]);
});
