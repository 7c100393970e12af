import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { input } from "../core/graph.js";
import { f32, type Tensor } from "../core/tensor.js";
import { mul } from "./elementwise.js";
import { f16 } from "./f16.js";
import { gradient } from "./gradient.js";
import { scaled } from "./linear.js";
import { reshape } from "./movement.js";
import { nf4 } from "./nf4.js";
import { q4 } from "./q4.js";
import { sum } from "./reduce.js";
import { type At, reader, tabulate, total } from "./reference.fixture.js";
import { expectClose, randomTensor, runGraph, testRuntime } from "./run-graph.fixture.js";
import { storedInputs } from "./stored-cases.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const bits = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0]!;
const golden = JSON.parse(readFileSync(new URL("./fixtures/nf4.json", import.meta.url), "utf8")) as Record<string, readonly number[]>;
const T = 5;

/** The numbers of a matrix as a form should keep them, from the form's definition. */
const kept: Readonly<Record<string, (matrix: Tensor<"float32">) => At>> = {
  /** To 11 significant bits, ties to even; all numbers here are normal halves. */
  f16: (matrix) => (i, j) => {
    const whole = bits(reader(matrix)(i, j));
    const rest = whole & 0x1fff;
    const cut = whole - rest;
    const up = rest > 0x1000 || (rest === 0x1000 && (cut & 0x2000) !== 0);
    return new Float32Array(Uint32Array.of(up ? cut + 0x2000 : cut).buffer)[0]!;
  },
  q4: (matrix) => (i, j) => {
    const columns = matrix.shape[1]!;
    const first = Math.floor(j / 32) * 32;
    const block = Array.from({ length: Math.min(32, columns - first) }, (_, k) => reader(matrix)(i, first + k));
    const [least, most] = [Math.min(...block), Math.max(...block)];
    const step = (most - least) / 15;
    return step === 0 ? least : least + Math.round((reader(matrix)(i, j) - least) / step) * step;
  },
  nf4: ({ shape, data }) => {
    const columns = shape[1]!;
    return (i, j) => {
      const at = i * columns + j;
      const start = Math.floor(at / 64) * 64;
      const most = Math.max(...data.subarray(start, start + 64).map(Math.abs));
      const numbers = [
        -1, -0.69619280099868, -0.52507305145264, -0.39491748809814, -0.28444138169289, -0.18477343022823, -0.09105003625154, 0,
      ].concat([
        0.07958029955626, 0.16093020141125, 0.24611230194569, 0.33791524171829, 0.44070982933044, 0.56261700391769, 0.7229568362236, 1,
      ]);
      return numbers.reduce((best, n) => (Math.abs(n * most - data[at]!) < Math.abs(best * most - data[at]!) ? n : best)) * most;
    };
  },
};

describe.each([f16, q4, nf4].map((form) => ({ form, name: form.name })))("$name", ({ form, name }) => {
  describe.each([
    [8, 64],
    [7, 21], // of which blocks are not full
  ])("of a matrix [%i, %i]", (R, C) => {
    const matrix = randomTensor([R, C], `${R}`);
    for (const [i, value] of matrix.data.entries()) matrix.data[i] = Math.abs(value) < 1e-3 ? 0.01 : value;
    matrix.data.fill(0.25, 2 * C, 3 * C); // a row of equal numbers
    const M = kept[name]!(matrix);

    it.each([true, false])("multiplies what it keeps, transB %s, and its gradient is exact", async (transB) => {
      const [K, N] = transB ? [C, R] : [R, C];
      const feeds = { x: randomTensor([T, K], "x"), weights: randomTensor([T, N], "weights"), addend: randomTensor([N], "addend") };
      const { stored, feeds: parts } = storedInputs(form, matrix);
      const [x, weights, addend] = [
        input("x", "float32", ["T", K]),
        input("weights", "float32", ["T", N]),
        input("addend", "float32", [N]),
      ];
      const y = form.product(x, stored, transB, addend);
      const half = scaled(form.product(x, stored, transB), 0.5);
      const [dx, dAddend] = gradient(reshape(sum(mul(y, weights), [0, 1]), []), [x, addend]);
      const results = await runGraph(runtime, { y, half, dx: dx!, dAddend: dAddend! }, { ...feeds, ...parts });
      const at = { x: reader(feeds.x), weights: reader(feeds.weights), addend: reader(feeds.addend) };
      const product = (i: number, n: number): number => total(K, (k) => at.x(i, k) * (transB ? M(n, k) : M(k, n)));
      expectClose(
        results.y,
        tabulate([T, N], (i, n) => product(i, n) + at.addend(n)),
      );
      expectClose(
        results.half,
        tabulate([T, N], (i, n) => 0.5 * product(i, n)),
      );
      expectClose(
        results.dx,
        tabulate([T, K], (i, k) => total(N, (n) => at.weights(i, n) * (transB ? M(n, k) : M(k, n)))),
      );
      expectClose(
        results.dAddend,
        tabulate([N], (n) => total(T, (i) => at.weights(i, n))),
      );
      expect(Object.keys(parts)).not.toContain("row_norms");
    });

    it("knows the squared norms of what it keeps", () => {
      const norms = form.store(matrix, ["row_norms", "column_norms"], "matrix");
      expectClose(
        norms.row_norms,
        tabulate([R], (i) => total(C, (j) => M(i, j) ** 2)),
      );
      expectClose(
        norms.column_norms,
        tabulate([C], (j) => total(R, (i) => M(i, j) ** 2)),
      );
    });
  });
});

it("nf4 stores the codes and scales of bitsandbytes", () => {
  const weight = f32(golden.weight!, golden.shape);
  const { codes, absmax } = nf4.store(weight, ["codes", "absmax"], "weight");
  expect(Array.from(codes!.data, Number)).toEqual(golden.packed);
  expect(Array.from(absmax!.data, Number)).toEqual(golden.absmax);
  const norms = nf4.store(weight, ["row_norms"], "weight").row_norms;
  expectClose(
    norms,
    tabulate([8], (i) => total(48, (j) => golden.restored![48 * i + j]! ** 2)),
  );
});

it("f16 refuses numbers that it cannot hold, by the weight's path", () => {
  expect(() => f16.store(f32([1, 65520], [1, 2]), ["values"], "encoder.weight")).toThrow(
    "encoder.weight: 65520 is too large for f16, whose largest number is 65504",
  );
  expect(f16.store(f32([1, 65504], [1, 2]), ["values"], "encoder.weight").values!.data).toEqual(Uint16Array.of(0x3c00, 0x7bff));
});
