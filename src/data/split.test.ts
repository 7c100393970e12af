import { describe, expect, it } from "vitest";
import { holdOut } from "./split.js";

describe("holdOut", () => {
  it("gives each row to one part, deterministically", () => {
    const { train, held } = holdOut(1000, 0.1, 3);
    expect([...train, ...held].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect(held).toHaveLength(100);
    expect(holdOut(1000, 0.1, 3).held).toEqual(held);
    expect(holdOut(1000, 0.1, 4).held).not.toEqual(held);
    expect(Math.abs(held.reduce((sum, row) => sum + row, 0) / 100 - 500)).toBeLessThan(120);
  });

  it("takes each label's share", () => {
    const labels = Array.from({ length: 200 }, (_, i) => (i < 150 ? "often" : i < 190 ? "seldom" : "rare"));
    const { held } = holdOut(200, 0.2, 1, labels);
    const count = (label: string): number => held.filter((row) => labels[row] === label).length;
    expect([count("often"), count("seldom"), count("rare")]).toEqual([30, 8, 2]);
  });

  it("fills the whole by largest remainders, many small classes", () => {
    const labels = Array.from({ length: 77 * 3 }, (_, i) => i % 77);
    const { held } = holdOut(labels.length, 0.1, 5, labels);
    expect(held).toHaveLength(23);
    expect(new Set(Array.from(held, (row) => labels[row])).size).toBe(23);
  });

  it("keeps a row of every class for training", () => {
    const labels = ["a", "a", "b", "b", "c", "d", "d", "d"];
    for (const fraction of [0.1, 0.5, 0.9, 0.99]) {
      const { train } = holdOut(labels.length, fraction, 2, labels);
      expect(new Set(Array.from(train, (row) => labels[row]))).toEqual(new Set(["a", "b", "c", "d"]));
    }
    expect(holdOut(3, 0.5, 1, ["x", "y", "z"]).held).toHaveLength(0);
  });

  it("refuses what makes no sense", () => {
    for (const fraction of [0, 1, -0.1, Number.NaN]) expect(() => holdOut(10, fraction, 1)).toThrow("fraction");
    expect(() => holdOut(10, 0.1, 1, ["a"])).toThrow("10 rows, but 1 labels");
  });
});
