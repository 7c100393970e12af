import { afterAll, describe, expect, it } from "vitest";
import { input, type Value } from "../core/graph.js";
import { f32, type Tensor } from "../core/tensor.js";
import { mul } from "./elementwise.js";
import { gradient } from "./gradient.js";
import { scaled } from "./linear.js";
import { reshape } from "./movement.js";
import { q8 } from "./q8.js";
import { sum } from "./reduce.js";
import { reader, tabulate, total } from "./reference.fixture.js";
import { expectClose, randomTensor, runGraph, testRuntime } from "./run-graph.fixture.js";
import { roundedRows, storedInputs } from "./stored-cases.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const [R, C, T] = [12, 20, 7];
const matrix = randomTensor([R, C], "matrix");
matrix.data.fill(0, 3 * C, 4 * C); // a row of zeros
matrix.data[5] = 8; // the largest of row 0 and column 5
const M = reader(matrix);

/** The numbers that q8 keeps, as [R, C]: in steps by row, or by column. */
function kept(by: "rows" | "columns"): Tensor<"float32"> {
  const step = (i: number, j: number): number =>
    Math.max(...Array.from({ length: by === "rows" ? C : R }, (_, k) => Math.abs(by === "rows" ? M(i, k) : M(k, j)))) / 127;
  return f32(Float32Array.from(tabulate([R, C], (i, j) => (step(i, j) === 0 ? 0 : Math.round(M(i, j) / step(i, j)) * step(i, j))).data), [
    R,
    C,
  ]);
}

describe("q8 stores", () => {
  it.each(["rows", "columns"] as const)("%s in 255 steps from minus to plus the largest", (by) => {
    const { [by]: values, [`${by}_scale`]: scales } = q8.store(matrix, [by, `${by}_scale`], "matrix") as Record<string, Tensor>;
    const [at, scale] = [reader(values!), reader(scales!)];
    expect(values!.dtype).toBe("int8");
    expect(values!.shape).toEqual(by === "rows" ? [C, R] : [R, C]);
    const back = tabulate([R, C], (i, j) => (by === "rows" ? at(j, i) * scale(i) : at(i, j) * scale(j)));
    expectClose(f32(Float32Array.from(back.data), [R, C]), kept(by), 1e-6);
    expect(by === "rows" ? at(5, 0) : at(0, 5)).toBe(127);
    for (const [i, value] of back.data.entries()) {
      const step = scale(by === "rows" ? Math.floor(i / C) : i % C);
      expect(Math.abs(value - matrix.data[i]!)).toBeLessThanOrEqual(0.5001 * step);
    }
  });

  it.each(["rows", "columns"] as const)("the squared norms of the %s it keeps", (by) => {
    const at = reader(kept(by));
    const reference = tabulate([by === "rows" ? R : C], (n) =>
      total(by === "rows" ? C : R, (k) => (by === "rows" ? at(n, k) : at(k, n)) ** 2),
    );
    expectClose(q8.store(matrix, [`${by}_norm`], "matrix")[`${by}_norm`], reference, 1e-5);
  });
});

/** x·Mᵀ or x·M with stored parts, and the gradient of Σ weights∘product by x and the addend. */
async function run(transB: boolean, x: Tensor<"float32">, alpha = 1) {
  const { stored, feeds } = storedInputs(q8, matrix);
  const [given, weights] = [randomTensor([transB ? R : C], "addend"), randomTensor([x.shape[0]!, transB ? R : C], "weights")];
  const values: Record<string, Value> = {
    x: input("x", "float32", ["T", transB ? C : R]),
    addend: input("addend", "float32", [transB ? R : C]),
    weights: input("weights", "float32", ["T", transB ? R : C]),
  };
  const y = alpha === 1 ? q8.product(values.x!, stored, transB, values.addend) : scaled(q8.product(values.x!, stored, transB), alpha);
  const forward = Object.keys(feeds);
  const loss = reshape(sum(mul(y, values.weights!), [0, 1]), []);
  const wrt = alpha === 1 ? [values.x!, values.addend!] : [values.x!];
  const [dx, dAddend] = gradient(loss, wrt);
  const outputs = { y, dx: dx!, ...(dAddend === undefined ? {} : { dAddend }) };
  const results = await runGraph(runtime, outputs, { x, addend: given, weights, ...feeds });
  return { results, forward, given: reader(given), weights };
}

describe.each([true, false])("q8's product, transB %s", (transB) => {
  const [K, N] = transB ? [C, R] : [R, C];
  const x = randomTensor([T, K], "x", -3, 3);
  const stored = reader(kept(transB ? "rows" : "columns"));
  const other = reader(kept(transB ? "columns" : "rows"));

  it("is that of rounded rows and the numbers kept", async () => {
    const { results, given } = await run(transB, x);
    const rows = reader(f32(Float32Array.from(roundedRows(reader(x), T, K).data), [T, K]));
    expectClose(
      results.y,
      tabulate([T, N], (i, n) => total(K, (k) => rows(i, k) * (transB ? stored(n, k) : stored(k, n))) + given(n)),
      1e-5,
    );
  });

  it("has the gradient of the product as if nothing were rounded but what the other product rounds", async () => {
    for (const alpha of [1, 0.5]) {
      const { results, weights } = await run(transB, x, alpha);
      const rows = reader(f32(Float32Array.from(roundedRows(reader(weights), T, N).data), [T, N]));
      expectClose(
        results.dx,
        tabulate([T, K], (i, k) => alpha * total(N, (n) => rows(i, n) * (transB ? other(n, k) : other(k, n)))),
        1e-5,
      );
      if (alpha === 1)
        expectClose(
          results.dAddend,
          tabulate([N], (n) => total(T, (i) => reader(weights)(i, n))),
          1e-5,
        );
    }
  });

  it("lies as near to the float product as rounding errors of uniform spread add up to", async () => {
    const { results, given } = await run(transB, x);
    const exact = tabulate([T, N], (i, n) => total(K, (k) => reader(x)(i, k) * (transB ? M(n, k) : M(k, n))) + given(n));
    const error = Math.sqrt(total(T * N, (i) => ((results.y!.data[i] as number) - exact.data[i]!) ** 2) / (T * N));
    // steps of x are 3/127, of W about 1/127 (8/127 where the outlier is): the error of K products of numbers of about ±3/√3 and ±1/√3
    const spread = Math.sqrt((K * ((3 / 127) ** 2 * (1 / 3) + (1 / 127) ** 2 * 3)) / 12);
    expect(error).toBeLessThan(2.5 * spread);
    expect(error).toBeGreaterThan(0.2 * spread);
  });

  it("gives a row the same, bit for bit, whatever stands beside it", async () => {
    const { results: all } = await run(transB, x);
    const loud = f32(
      x.data.map((value, i) => (i < K ? value : 1000 * value)),
      x.shape,
    );
    const alone = f32(x.data.slice(0, K), [1, K]);
    const first = all.y!.data.slice(0, N);
    expect((await run(transB, loud)).results.y!.data.slice(0, N)).toEqual(first);
    expect((await run(transB, alone)).results.y!.data).toEqual(first);
  });

  it("of zeros is the addend", async () => {
    const { results, given } = await run(transB, f32(new Float32Array(T * K), [T, K]));
    expectClose(
      results.y,
      tabulate([T, N], (_, n) => given(n)),
      0,
    );
  });

  it("reads nothing of the other product's before there is a gradient", async () => {
    const { forward } = await run(transB, x);
    expect(forward).toEqual(transB ? ["rows", "rows_scale"] : ["columns", "columns_scale"]);
  });
});
