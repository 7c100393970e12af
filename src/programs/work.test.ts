import { expect, test } from "vitest";
import { apply1, input, leaf, type Value } from "../core/graph.js";
import { geluOp } from "../ops/activation.js";
import { add } from "../ops/elementwise.js";
import { gemm, matmul } from "../ops/linear.js";
import { crossEntropySum } from "../ops/loss.js";
import { gather, reshape } from "../ops/movement.js";
import { q8 } from "../ops/q8.js";
import { fedBytes, graphWork, peakBytes } from "./work.js";

const x = input("x", "float32", ["T", 4]);
const sizes = { T: 10, B: 2, S: 5, L: 300 };
const frozen = (path: string, shape: readonly number[]): Value => leaf({ kind: "weight", path }, { dtype: "float32", shape });

test("peakBytes: values are dropped after their last use; fed ones and views cost nothing", () => {
  // a and b, then b and c, then c and d: never more than two of 10 × 4 floats at once.
  const [a] = [add(x, x)];
  const b = add(a, a);
  const c = add(b, b);
  expect(peakBytes({ d: add(c, c) }, sizes)).toBe(2 * 160);
  // a lives on to the end: three at once.
  expect(peakBytes({ d: add(add(b, b), a) }, sizes)).toBe(3 * 160);
  expect(peakBytes({ y: reshape(add(x, x), [4, "T"]) }, sizes)).toBe(160);
});

test("peakBytes counts what an op holds within itself: the logits and the softmax of a chunk, not of all rows", () => {
  const loss = crossEntropySum(
    gemm(input("h", "float32", ["L", 4]), frozen("table", [50, 4]), { transB: true }),
    input("classes", "int32", ["L"]),
  );
  const chunks = 2 * 4 * 128 * 50;
  expect(peakBytes({ loss }, sizes)).toBe(4 * 300 + chunks); // beside the losses of all rows
  expect(peakBytes({ loss }, { ...sizes, L: 20 })).toBe(4 * 20 + 2 * 4 * 20 * 50);
});

test("graphWork: products count two operations a multiplication, each of their kind", () => {
  const w = frozen("w", [6, 4]);
  expect(graphWork({ y: gemm(x, w, { transB: true }) }, sizes)).toEqual({ operations: { f32: 2 * 10 * 4 * 6 }, moved: 0 });
  expect(graphWork({ y: gemm(x, x, { transA: true }) }, sizes).operations).toEqual({ f32: 2 * 4 * 10 * 4 });
  const heads = input("q", "float32", ["B", 3, "S", 8]);
  expect(graphWork({ y: matmul(heads, heads, { transB: true }) }, sizes).operations).toEqual({ batched: 2 * 2 * 3 * 5 * 8 * 5 });
  const part = (name: string, type: Value["type"]): Value =>
    leaf({ kind: "weight", path: "w", part: { form: "q8", name, shape: [6, 4] } }, type);
  expect(graphWork({ y: q8.product(x, { shape: [6, 4], part }, true) }, sizes).operations).toEqual({ q8: 2 * 10 * 4 * 6 });
});

test("graphWork: all else counts with the bytes that it reads and writes", () => {
  const moved = (y: Value): number => graphWork({ y }, sizes).moved;
  expect(moved(add(x, x))).toBe(3 * 160);
  expect(moved(reshape(x, [4, "T"]))).toBe(0);
  expect(moved(apply1(geluOp, [x], null))).toBe(6 * 160);
  expect(moved(gather(frozen("table", [1000, 4]), input("ids", "int32", ["T"])))).toBe(2 * 160); // of the table only its rows
});

test("graphWork counts a node once, whoever reads it", () => {
  const a = add(x, x);
  expect(graphWork({ y: add(a, a), a }, sizes).moved).toBe(2 * 3 * 160);
});

test("fedBytes: the batch's inputs", () => {
  expect(fedBytes({ y: add(x, frozen("w", [4])) }, sizes)).toBe(160);
});
