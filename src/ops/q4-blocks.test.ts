import { afterAll, describe, expect, it } from "vitest";
import { input } from "../core/graph.js";
import type { Tensor } from "../core/tensor.js";
import { q4 } from "./q4.js";
import { q4Blocks } from "./q4-blocks.js";
import { reader, tabulate, total } from "./reference.fixture.js";
import { expectClose, randomTensor, runGraph, testRuntime } from "./run-graph.fixture.js";
import { storedInputs } from "./stored-cases.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const T = 3;

describe.each([
  { shape: [12, 96], transB: true, how: "by the blocks' product" },
  { shape: [12, 70], transB: true, how: "as in q4, where rows are no whole number of blocks" },
  { shape: [64, 12], transB: false, how: "as in q4, where the other product is wanted" },
])("4 bits in blocks, $shape, transB $transB", ({ shape, transB, how }) => {
  const matrix = randomTensor([shape[0]!, shape[1]!], "matrix");
  const [K, N] = transB ? [shape[1]!, shape[0]!] : [shape[0]!, shape[1]!];

  it(`multiplies by q4's numbers, ${how}`, async () => {
    const { stored, feeds } = storedInputs(q4Blocks, matrix);
    const [x, addend] = [randomTensor([T, K], "x", -3, 3), randomTensor([N], "addend")];
    x.data[7] = 300; // an outlier: what is left of its block's other numbers is in the second part
    const { steps, zeros, codes } = q4.store(matrix, ["codes", "steps", "zeros"], "matrix") as Readonly<Record<string, Tensor>>;
    const blocks = Math.ceil(shape[1]! / 32);
    const numberAt = (i: number, j: number): number => {
      const [block, k] = [i * blocks + Math.floor(j / 32), i * blocks * 32 + j];
      const code = (Number(codes!.data[k >> 1]) >> (k % 2 === 0 ? 0 : 4)) & 15;
      return (code - Number(zeros!.data[block])) * Number(steps!.data[block]);
    };
    const y = q4Blocks.product(input("x", "float32", ["T", K]), stored, transB, input("addend", "float32", [N]));
    const { y: result } = await runGraph(runtime, { y }, { x, addend, ...feeds });
    const exact = tabulate(
      [T, N],
      (i, n) => total(K, (k) => reader(x)(i, k) * (transB ? numberAt(n, k) : numberAt(k, n))) + reader(addend)(n),
    );
    // 300 is off by 300/127/254 at most
    expectClose(result, exact, 0.05);
  });

  it("keeps the squared norms of what it stores", () => {
    const name = transB ? "row_norms" : "column_norms";
    expect(q4Blocks.store(matrix, [name], "matrix")[name]!.data).toEqual(q4.store(matrix, [name], "matrix")[name]!.data);
  });
});
