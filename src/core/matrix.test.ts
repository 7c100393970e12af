import { describe, expect, it } from "vitest";
import { addProduct, maxAbsDifference, rowNorms, scaleColumns, scaleRows, weightedSum } from "./matrix.js";
import { f32 } from "./tensor.js";

const W = f32([1, 2, 3, 4, 5, 6], [2, 3]);

describe("matrices", () => {
  it("adds a scaled product of two factors", () => {
    const B = f32([1, 0, 2, -1], [2, 2]);
    const A = f32([1, 1, 0, 0, 3, 1], [2, 3]);
    expect(addProduct(W, B, A, 0.5)).toEqual(f32([1.5, 2.5, 3, 5, 4.5, 5.5], [2, 3]));
  });

  it("rounds once: what is added and taken away again in the sum does not get lost", () => {
    const [B, A] = [f32([1, 1, -1], [1, 3]), f32([1e8, 1, 1e8], [3, 1])];
    expect(addProduct(f32([0], [1, 1]), B, A, 1).data[0]).toBe(1);
  });

  it("scales rows, columns and the entries of a vector", () => {
    expect(scaleRows(W, [2, -1])).toEqual(f32([2, 4, 6, -4, -5, -6], [2, 3]));
    expect(scaleColumns(W, [1, 0, 2])).toEqual(f32([1, 0, 6, 4, 0, 12], [2, 3]));
    expect(scaleRows(f32([3, 4]), [2, 10])).toEqual(f32([6, 40]));
  });

  it("measures rows", () => {
    expect([...rowNorms(f32([3, 4, 0, 2], [2, 2]))]).toEqual([5, 2]);
  });

  it("sums with weights", () => {
    expect(weightedSum([f32([1, 2]), f32([10, 20])], [2, -0.5])).toEqual(f32([-3, -6]));
  });

  it("finds the largest difference, and NaN wherever it stands", () => {
    expect(maxAbsDifference([], [])).toBe(0);
    expect(maxAbsDifference([1, 5, 2], [1, 2, 3])).toBe(3);
    expect(maxAbsDifference([1, Number.NaN, 9], [1, 2, 3])).toBeNaN();
    expect(maxAbsDifference([1, 2, 9], [Number.NaN, 2, 3])).toBeNaN();
  });
});
