import { expect, it } from "vitest";
import { fromGgufRows, toGgufRows } from "./gguf-rows.js";

it("llama.cpp's neighbours are Hugging Face's halves, in each head", () => {
  const rows = Float32Array.from([0, 1, 2, 3, 10, 11, 12, 13].flatMap((row) => [row, row + 0.5])); // 2 heads of 4 rows, 2 numbers each
  const first = (data: Float32Array): readonly number[] => [...data].filter((_, i) => i % 2 === 0);
  expect(first(fromGgufRows(rows, 2, 8))).toEqual([0, 2, 1, 3, 10, 12, 11, 13]);
  const wide = Float32Array.from({ length: 8 }, (_, i) => i);
  expect([...fromGgufRows(wide, 1, 8)]).toEqual([0, 2, 4, 6, 1, 3, 5, 7]);
  expect([...toGgufRows(wide, 1, 8)]).toEqual([0, 4, 1, 5, 2, 6, 3, 7]);
  expect(toGgufRows(fromGgufRows(rows, 2, 8), 2, 8)).toEqual(rows);
});
