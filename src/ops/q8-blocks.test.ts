import { afterAll, describe, expect, it } from "vitest";
import { input } from "../core/graph.js";
import { f32, type Tensor } from "../core/tensor.js";
import { q8Blocks } from "./q8-blocks.js";
import { reader, tabulate, total } from "./reference.fixture.js";
import { expectClose, randomTensor, runGraph, testRuntime } from "./run-graph.fixture.js";
import { storedInputs } from "./stored-cases.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const [R, C, T] = [12, 70, 3]; // 70: the last block of a row is not full
const matrix = randomTensor([R, C], "matrix");
matrix.data.fill(0, 3 * C, 3 * C + 32); // a block of zeros
matrix.data[5] = 8; // an outlier, of concern to its own block only
const M = reader(matrix);

/** M's numbers as 255 steps in blocks of 32 along its rows or its columns. */
function kept(ofRows: boolean): (i: number, j: number) => number {
  return (i, j) => {
    const first = 32 * Math.floor((ofRows ? j : i) / 32);
    const block = Array.from({ length: Math.min(32, (ofRows ? C : R) - first) }, (_, k) => (ofRows ? M(i, first + k) : M(first + k, j)));
    const step = Math.max(...block.map(Math.abs)) / 127;
    return step === 0 ? 0 : Math.round(M(i, j) / step) * step;
  };
}

describe.each([true, false])("8 bits in blocks, transB %s", (transB) => {
  const [K, N] = transB ? [C, R] : [R, C];
  const stored = kept(transB);
  const at = (k: number, n: number): number => (transB ? stored(n, k) : stored(k, n));

  it("multiplies by the numbers kept, but for the rounding of activations, to 8 bits where blocks are not whole", async () => {
    const { stored: parts, feeds } = storedInputs(q8Blocks, matrix);
    const [x, addend] = [randomTensor([T, K], "x", -3, 3), randomTensor([N], "addend")];
    const y = q8Blocks.product(input("x", "float32", ["T", K]), parts, transB, input("addend", "float32", [N]));
    const { y: result } = await runGraph(runtime, { y }, { x, addend, ...feeds });
    const exact = tabulate([T, N], (i, n) => total(K, (k) => reader(x)(i, k) * at(k, n)) + reader(addend)(n));
    // an activation is off by half of 3/127 at most
    const bound = (n: number): number => (1.01 * 1.5 * total(K, (k) => Math.abs(at(k, n)))) / 127 + 1e-5;
    for (const [i, value] of exact.data.entries()) expect(Math.abs((result!.data[i] as number) - value)).toBeLessThan(bound(i % N));
  });

  it("multiplies whole blocks by activations of which 15 bits are left", async () => {
    const square = randomTensor([64, 64], "square");
    const names = ["codes", "steps"].map((part) => `${transB ? "rows" : "columns"}_${part}`);
    const { [names[0]!]: codes, [names[1]!]: steps } = q8Blocks.store(square, names, "square");
    const weight = (n: number, k: number): number => (Number(codes!.data[n * 64 + k]) - 128) * Number(steps!.data[n * 2 + (k >> 5)]);
    const { stored: parts, feeds } = storedInputs(q8Blocks, square);
    const x = randomTensor([T, 64], "x", -3, 3);
    const y = q8Blocks.product(input("x", "float32", ["T", 64]), parts, transB);
    const { y: result } = await runGraph(runtime, { y }, { x, ...feeds });
    const exact = tabulate([T, 64], (i, n) => total(64, (k) => reader(x)(i, k) * weight(n, k)));
    // an activation is off by half of 3/127/254 at most
    const bound = (n: number): number => (1.01 * 1.5 * total(64, (k) => Math.abs(weight(n, k)))) / 127 / 254 + 1e-5;
    for (const [i, value] of exact.data.entries()) expect(Math.abs((result!.data[i] as number) - value)).toBeLessThan(bound(i % 64));
  });

  it("keeps numbers on 16 levels better than others", () => {
    const levels = f32(
      Float32Array.from({ length: 64 * 64 }, (_, i) => ((i * 7 + (i >> 6) * 3) % 16) * 0.013 - 0.0852),
      [64, 64],
    );
    const names = ["codes", "steps", "zeros"].map((part) => `${transB ? "rows" : "columns"}_${part}`);
    const { [names[0]!]: codes, [names[1]!]: steps, [names[2]!]: zeros } = q8Blocks.store(levels, names, "levels");
    const at = (n: number, k: number): number =>
      (Number(codes!.data[n * 64 + k]) - Number(zeros!.data[n * 2 + (k >> 5)])) * Number(steps!.data[n * 2 + (k >> 5)]);
    const off = (n: number, k: number): number => Math.abs(at(n, k) - levels.data[transB ? n * 64 + k : k * 64 + n]!);
    const farthest = Math.max(...Array.from({ length: 64 * 64 }, (_, i) => off(i >> 6, i & 63)));
    // 127 steps to the largest magnitude would leave numbers up to 0.0004 off
    expect(farthest).toBeLessThan(5e-5);
  });

  it("keeps the squared norms of what it stores", () => {
    const name = transB ? "rows_norm" : "columns_norm";
    const norms = q8Blocks.store(matrix, [name], "matrix")[name] as Tensor<"float32">;
    expectClose(norms, f32(Float32Array.from({ length: N }, (_, n) => total(K, (k) => at(k, n) ** 2))), 1e-5);
  });
});
