import { Matrix, SingularValueDecomposition } from "ml-matrix";
import { describe, expect, it } from "vitest";
import { matrixOf, orthonormal, randomSingular, rowsOf, type SingularPart, topSingular } from "./factorize.js";
import { fillNormal, keyOf } from "./random.js";

const noise = (rows: number, columns: number, name: string): Matrix => {
  const data = new Float32Array(rows * columns);
  fillNormal(data, keyOf(1, name), 0, 1);
  return matrixOf(data, rows, columns);
};
const product = ({ left, values, right }: SingularPart): Matrix => left.mmul(Matrix.diag([...values])).mmul(right.transpose());
const distance = (a: Matrix, b: Matrix): number => Matrix.sub(a, b).abs().max();

it("keeps numbers in rows", () => {
  expect(matrixOf([1, 2, 3, 4, 5, 6], 2, 3).to2DArray()).toEqual([
    [1, 2, 3],
    [4, 5, 6],
  ]);
  expect([...rowsOf(matrixOf([1, 2, 3, 4, 5, 6], 2, 3).transpose())]).toEqual([1, 4, 2, 5, 3, 6]);
});

describe.each([
  ["tall", 9, 5],
  ["wide", 5, 9],
  ["square", 7, 7],
] as const)("of a %s matrix", (name, rows, columns) => {
  const W = noise(rows, columns, name);
  const svd = new SingularValueDecomposition(W, { autoTranspose: true });

  it("the largest singular values are those of the whole decomposition", () => {
    const { values } = topSingular(W, 3);
    for (const [i, value] of values.entries()) expect(value).toBeCloseTo(svd.diagonal[i]!, 12);
  });

  it("the vectors are orthonormal and give the best approximation", () => {
    const part = topSingular(W, 3);
    for (const vectors of [part.left, part.right]) expect(distance(vectors.transpose().mmul(vectors), Matrix.eye(3))).toBeLessThan(1e-12);
    const rest = new SingularValueDecomposition(Matrix.sub(W, product(part)), { autoTranspose: true });
    expect(rest.diagonal[0]).toBeCloseTo(svd.diagonal[3]!, 10);
  });

  it("subspace iteration comes as near as one likes", () => {
    const start = noise(columns, 3, "start");
    const gaps = [0, 4, 200].map((iterations) => distance(product(randomSingular(W, start, iterations)), product(topSingular(W, 3))));
    expect(gaps[0]).toBeGreaterThan(gaps[1]!);
    expect(gaps[1]).toBeGreaterThan(gaps[2]!);
    expect(gaps[2]).toBeLessThan(1e-6);
  });
});

it("values that are not there come with vectors of zeros", () => {
  const W = noise(6, 1, "a").mmul(noise(1, 4, "b"));
  const part = topSingular(W, 3);
  expect(part.values.map((value) => value > 0)).toEqual([true, false, false]);
  expect(distance(product(part), W)).toBeLessThan(1e-12);
  expect(part.left.getColumn(2)).toEqual([0, 0, 0, 0, 0, 0]);
  expect(topSingular(Matrix.zeros(3, 2), 2).values).toEqual([0, 0]);
});

it("an orthonormal basis spans the columns", () => {
  const columns = noise(8, 3, "columns");
  const basis = orthonormal(columns);
  expect(distance(basis.transpose().mmul(basis), Matrix.eye(3))).toBeLessThan(1e-12);
  expect(distance(basis.mmul(basis.transpose()).mmul(columns), columns)).toBeLessThan(1e-12);
});
