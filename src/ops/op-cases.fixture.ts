import { apply1, type OpDef, type Value } from "../core/graph.js";
import { f32, i32, type Tensor } from "../core/tensor.js";
import { geluOp, geluSlopeOp, siluOp, siluSlopeOp } from "./activation.js";
import { attentionCases } from "./attention-cases.fixture.js";
import { decodingCases } from "./decoding-cases.fixture.js";
import * as elementwise from "./elementwise.js";
import { gemm, gemmOp, linear, matmul, matmulOp } from "./linear.js";
import { lossCases } from "./loss-cases.fixture.js";
import {
  concat,
  concatOp,
  expand,
  expandOp,
  gather,
  gatherOp,
  reshape,
  reshapeOp,
  scatterAddOp,
  slice,
  sliceOp,
  transpose,
  transposeOp,
} from "./movement.js";
import { normCases } from "./norm-cases.fixture.js";
import { type OpCase, opCase } from "./op-case.fixture.js";
import { afterOp } from "./recompute.js";
import { softmax, softmaxOp, sum, sumOp } from "./reduce.js";
import { type At, awayFromZero, erfOf, tabulate, total } from "./reference.fixture.js";
import { randomTensor } from "./run-graph.fixture.js";
import { storedCases } from "./stored-cases.fixture.js";

const { add, sub, mul, div, neg, exp, log, sqrt, tanh, sigmoid, relu, erf } = elementwise;

function unaryCase(
  op: OpDef,
  build: (x: Value) => Value,
  formula: (x: number) => number,
  x: Tensor = randomTensor([5, 7], op.name, -2, 2),
): OpCase {
  return opCase({
    op,
    title: "[T, 7]",
    inputs: { x },
    shapes: { x: ["T", 7] },
    sizes: { T: 5 },
    build: ({ x }) => build(x),
    reference: ({ x }) => tabulate([5, 7], (i, j) => formula(x(i, j))),
  });
}

function binaryCases(op: OpDef, build: (a: Value, b: Value) => Value, formula: (a: number, b: number) => number): readonly OpCase[] {
  const [low, high] = [0.5, 1.5]; // away from the pole of div
  return [
    opCase({
      op,
      title: "[T, 7] with [7]",
      inputs: { a: randomTensor([5, 7], "a"), b: randomTensor([7], "b", low, high) },
      shapes: { a: ["T", 7] },
      sizes: { T: 5 },
      build: ({ a, b }) => build(a, b),
      reference: ({ a, b }) => tabulate([5, 7], (i, j) => formula(a(i, j), b(j))),
    }),
    opCase({
      op,
      title: "[1, 3] with [2, T, 1]",
      inputs: { a: randomTensor([1, 3], "a"), b: randomTensor([2, 5, 1], "b", low, high) },
      shapes: { b: [2, "T", 1] },
      sizes: { T: 5 },
      build: ({ a, b }) => build(a, b),
      reference: ({ a, b }) => tabulate([2, 5, 3], (h, i, j) => formula(a(0, j), b(h, i, 0))),
    }),
    opCase({
      op,
      title: "[] with [3]",
      inputs: { a: randomTensor([], "a"), b: randomTensor([3], "b", low, high) },
      build: ({ a, b }) => build(a, b),
      reference: ({ a, b }) => tabulate([3], (i) => formula(a(), b(i))),
    }),
  ];
}

const turns = [
  { transA: false, transB: false },
  { transA: false, transB: true },
  { transA: true, transB: false },
  { transA: true, transB: true },
] as const;

function productCases({ transA, transB }: (typeof turns)[number]): readonly OpCase[] {
  const letters = `A${transA ? "ᵀ" : ""}·B${transB ? "ᵀ" : ""}`;
  const options = { transA, transB, alpha: 0.7 };
  const inner = (a: At, b: At, i: number, j: number): number =>
    0.7 * total(3, (k) => (transA ? a(k, i) : a(i, k)) * (transB ? b(j, k) : b(k, j)));
  return [
    opCase({
      op: gemmOp,
      title: `${letters}, A [T, 3], B [3, 4]`,
      inputs: { a: randomTensor(transA ? [3, 5] : [5, 3], "a"), b: randomTensor(transB ? [4, 3] : [3, 4], "b") },
      shapes: { a: transA ? [3, "T"] : ["T", 3] },
      sizes: { T: 5 },
      build: ({ a, b }) => gemm(a, b, options),
      reference: ({ a, b }) => tabulate([5, 4], (i, j) => inner(a, b, i, j)),
    }),
    opCase({
      op: matmulOp,
      title: `${letters} of [B, 2, S, 3] and [B, 2, 3, 4]`,
      inputs: { a: randomTensor(transA ? [3, 2, 3, 5] : [3, 2, 5, 3], "a"), b: randomTensor(transB ? [3, 2, 4, 3] : [3, 2, 3, 4], "b") },
      shapes: { a: transA ? ["B", 2, 3, "S"] : ["B", 2, "S", 3], b: transB ? ["B", 2, 4, 3] : ["B", 2, 3, 4] },
      sizes: { B: 3, S: 5 },
      build: ({ a, b }) => matmul(a, b, options),
      reference: ({ a, b }) =>
        tabulate([3, 2, 5, 4], (n, h, i, j) =>
          inner(
            (p, q) => a(n, h, p, q),
            (p, q) => b(n, h, p, q),
            i,
            j,
          ),
        ),
    }),
  ];
}

const addendCases = ([[5, 4], [1, 4], [4]] as const).map((shape) =>
  opCase({
    op: gemmOp,
    title: `with an addend [${shape}]`,
    inputs: { a: randomTensor([5, 3], "a"), b: randomTensor([4, 3], "b"), c: randomTensor(shape, "c") },
    build: ({ a, b, c }) => gemm(a, b, { transB: true, alpha: -2 }, c),
    reference: ({ a, b, c }) =>
      tabulate([5, 4], (i, j) => -2 * total(3, (k) => a(i, k) * b(j, k)) + c(...(shape.length === 1 ? [j] : [shape[0] === 1 ? 0 : i, j]))),
  }),
);

/** At least one case per op; ops.test.ts asserts that none is missing. */
export const opCases: readonly OpCase[] = [
  ...binaryCases(elementwise.addOp, add, (a, b) => a + b),
  ...binaryCases(elementwise.subOp, sub, (a, b) => a - b),
  ...binaryCases(elementwise.mulOp, mul, (a, b) => a * b),
  ...binaryCases(elementwise.divOp, div, (a, b) => a / b),
  unaryCase(elementwise.negOp, neg, (x) => -x),
  unaryCase(elementwise.expOp, exp, Math.exp),
  unaryCase(elementwise.logOp, log, Math.log, randomTensor([5, 7], "log", 0.5, 2)),
  unaryCase(elementwise.sqrtOp, sqrt, Math.sqrt, randomTensor([5, 7], "sqrt", 0.5, 2)),
  unaryCase(elementwise.tanhOp, tanh, Math.tanh),
  unaryCase(elementwise.sigmoidOp, sigmoid, (x) => 1 / (1 + Math.exp(-x))),
  unaryCase(elementwise.reluOp, relu, (x) => Math.max(x, 0), awayFromZero([5, 7], "relu")),
  unaryCase(
    elementwise.signOp,
    (x) => apply1(elementwise.signOp, [x], null),
    Math.sign,
    f32([-2, 0, 3, ...new Array<number>(32).fill(-0.5)], [5, 7]),
  ),
  unaryCase(elementwise.detachOp, elementwise.detach, (x) => x),
  unaryCase(elementwise.erfOp, erf, erfOf),
  unaryCase(
    geluOp,
    (x) => apply1(geluOp, [x], null),
    (x) => (x * (1 + erfOf(x / Math.SQRT2))) / 2,
  ),
  unaryCase(
    siluOp,
    (x) => apply1(siluOp, [x], null),
    (x) => x / (1 + Math.exp(-x)),
  ),
  opCase({
    op: siluSlopeOp,
    title: "y + sigmoid(x)(1 - y)",
    inputs: { x: randomTensor([5, 7], "x", -9, 9), y: randomTensor([5, 7], "y", -3, 3) },
    build: ({ x, y }) => apply1(siluSlopeOp, [x, y], null),
    reference: ({ x, y }) => tabulate([5, 7], (i, j) => y(i, j) + (1 - y(i, j)) / (1 + Math.exp(-x(i, j)))),
  }),
  opCase({
    op: geluSlopeOp,
    title: "2(Φ(x) + xφ(x))",
    inputs: { x: randomTensor([5, 7], "x", -3, 3) },
    build: ({ x }) => apply1(geluSlopeOp, [x], null),
    reference: ({ x }) =>
      tabulate([5, 7], (i, j) => {
        const at = x(i, j);
        return 1 + erfOf(at / Math.SQRT2) + 2 * ((at * Math.exp(-(at * at) / 2)) / Math.sqrt(2 * Math.PI));
      }),
  }),
  opCase({
    op: sumOp,
    title: "over the outer axes of [3, T, 4]",
    inputs: { x: randomTensor([3, 5, 4], "sum") },
    shapes: { x: [3, "T", 4] },
    sizes: { T: 5 },
    build: ({ x }) => sum(mul(x, x), [0, -1]),
    reference: ({ x }) => tabulate([1, 5, 1], (_, i) => total(3, (h) => total(4, (j) => x(h, i, j) ** 2))),
  }),
  opCase({
    op: sumOp,
    title: "over the symbolic axis",
    inputs: { x: randomTensor([5, 3], "x") },
    shapes: { x: ["T", 3] },
    sizes: { T: 5 },
    build: ({ x }) => sum(mul(x, x), [0]),
    reference: ({ x }) => tabulate([1, 3], (_, j) => total(5, (i) => x(i, j) ** 2)),
  }),
  opCase({
    op: softmaxOp,
    title: "over the last axis",
    inputs: { x: randomTensor([5, 7], "x", -3, 3) },
    shapes: { x: ["T", 7] },
    sizes: { T: 5 },
    build: ({ x }) => softmax(x),
    reference: ({ x }) => tabulate([5, 7], (i, j) => Math.exp(x(i, j)) / total(7, (k) => Math.exp(x(i, k)))),
  }),
  opCase({
    op: softmaxOp,
    title: "over the first axis, with large values",
    inputs: { x: f32([200, -150, 201, 3, 199, 2], [3, 2]) },
    fixed: ["x"],
    build: ({ x }) => softmax(x, 0),
    reference: ({ x }) => tabulate([3, 2], (i, j) => 1 / total(3, (k) => Math.exp(x(k, j) - x(i, j)))),
  }),
  opCase({
    op: softmaxOp,
    title: "over the middle axis",
    inputs: { x: randomTensor([2, 5, 3], "x", -3, 3) },
    build: ({ x }) => softmax(x, 1),
    reference: ({ x }) => tabulate([2, 5, 3], (h, i, j) => Math.exp(x(h, i, j)) / total(5, (k) => Math.exp(x(h, k, j)))),
  }),
  opCase({
    op: reshapeOp,
    title: "[T, 6] to [T, 2, 3]",
    inputs: { x: randomTensor([5, 6], "x") },
    shapes: { x: ["T", 6] },
    sizes: { T: 5 },
    build: ({ x }) => reshape(x, ["T", 2, 3]),
    reference: ({ x }) => tabulate([5, 2, 3], (i, j, k) => x(i, 3 * j + k)),
  }),
  opCase({
    op: reshapeOp,
    title: "[B, S, 3] to [S*B, 3] to [S, B, 3]",
    inputs: { x: randomTensor([2, 5, 3], "x") },
    shapes: { x: ["B", "S", 3] },
    sizes: { B: 2, S: 5 },
    build: ({ x }) => reshape(reshape(mul(x, x), ["S*B", 3]), ["S", "B", 3]),
    reference: ({ x }) => tabulate([5, 2, 3], (i, j, k) => x(Math.floor((2 * i + j) / 5), (2 * i + j) % 5, k) ** 2),
  }),
  opCase({
    op: expandOp,
    title: "[3, 1] to [2, 3, 4]",
    inputs: { x: randomTensor([3, 1], "x") },
    build: ({ x }) => expand(x, [2, 3, 4]),
    reference: ({ x }) => tabulate([2, 3, 4], (_, i) => x(i, 0)),
  }),
  opCase({
    op: expandOp,
    title: "[1, 3] to [T, 3]",
    inputs: { x: randomTensor([1, 3], "x"), like: randomTensor([5, 3], "like") },
    shapes: { like: ["T", 3] },
    sizes: { T: 5 },
    build: ({ x, like }) => mul(expand(x, ["T", 3]), like),
    reference: ({ x, like }) => tabulate([5, 3], (i, j) => x(0, j) * like(i, j)),
  }),
  opCase({
    op: transposeOp,
    title: "[2, T, 3] to [3, 2, T]",
    inputs: { x: randomTensor([2, 5, 3], "x") },
    shapes: { x: [2, "T", 3] },
    sizes: { T: 5 },
    build: ({ x }) => transpose(x, [2, 0, 1]),
    reference: ({ x }) => tabulate([3, 2, 5], (i, j, k) => x(j, k, i)),
  }),
  opCase({
    op: gatherOp,
    title: "rows of a matrix, one of them twice",
    inputs: { table: randomTensor([6, 3], "table"), indices: i32([2, 0, 2, 5]) },
    shapes: { indices: ["N"] },
    sizes: { N: 4 },
    build: ({ table, indices }) => gather(table, indices),
    reference: ({ table, indices }) => tabulate([4, 3], (i, j) => table(indices(i), j)),
  }),
  opCase({
    op: gatherOp,
    title: "from a table of T rows",
    inputs: { table: randomTensor([6, 3, 2], "table"), indices: i32([2, 0, 2, 5, 2]) },
    shapes: { table: ["T", 3, 2], indices: ["L"] },
    sizes: { T: 6, L: 5 },
    build: ({ table, indices }) => gather(mul(table, table), indices),
    reference: ({ table, indices }) => tabulate([5, 3, 2], (i, j, k) => table(indices(i), j, k) ** 2),
  }),
  opCase({
    op: scatterAddOp,
    title: "with indices that come twice or never",
    inputs: { values: randomTensor([5, 3], "values"), indices: i32([3, 0, 3, 3, 1]) },
    shapes: { values: ["N", 3], indices: ["N"] },
    sizes: { N: 5 },
    build: ({ values, indices }) => apply1(scatterAddOp, [values, indices], { rows: 4 }),
    reference: ({ values, indices }) => tabulate([4, 3], (row, j) => total(5, (i) => (indices(i) === row ? values(i, j) : 0))),
  }),
  opCase({
    op: concatOp,
    title: "three matrices along axis 1",
    inputs: { a: randomTensor([5, 2], "a"), b: randomTensor([5, 1], "b"), c: randomTensor([5, 3], "c") },
    shapes: { a: ["T", 2], b: ["T", 1], c: ["T", 3] },
    sizes: { T: 5 },
    build: ({ a, b, c }) => concat([a, b, c], -1),
    reference: ({ a, b, c }) => tabulate([5, 6], (i, j) => (j < 2 ? a(i, j) : j < 3 ? b(i, 0) : c(i, j - 3))),
  }),
  opCase({
    op: concatOp,
    title: "[2, 3] and [T, 3] along axis 0",
    inputs: { a: randomTensor([2, 3], "a"), b: randomTensor([5, 3], "b") },
    shapes: { b: ["T", 3] },
    sizes: { T: 5 },
    build: ({ a, b }) => concat([a, mul(b, b)], 0),
    reference: ({ a, b }) => tabulate([7, 3], (i, j) => (i < 2 ? a(i, j) : b(i - 2, j) ** 2)),
  }),
  opCase({
    op: sliceOp,
    title: "[1, 4) of axis 1",
    inputs: { x: randomTensor([5, 6], "x") },
    shapes: { x: ["T", 6] },
    sizes: { T: 5 },
    build: ({ x }) => slice(mul(x, x), -1, 1, 4),
    reference: ({ x }) => tabulate([5, 3], (i, j) => x(i, j + 1) ** 2),
  }),
  ...(
    [
      [0, "T-2"],
      [2, "T"],
      [1, "T-1"],
    ] as const
  ).map(([start, end]) =>
    opCase({
      op: sliceOp,
      title: `[${start}, ${end}) of an axis of size T`,
      inputs: { x: randomTensor([5, 3], "x") },
      shapes: { x: ["T", 3] },
      sizes: { T: 5 },
      build: ({ x }) => slice(mul(x, x), 0, start, end),
      reference: ({ x }) => tabulate([3, 3], (i, j) => x(i + start, j) ** 2),
    }),
  ),
  ...turns.flatMap(productCases),
  ...addendCases,
  opCase({
    op: gemmOp,
    title: "as a linear layer",
    inputs: { x: randomTensor([5, 3], "x"), weight: randomTensor([4, 3], "weight"), bias: randomTensor([4], "bias") },
    shapes: { x: ["T", 3] },
    sizes: { T: 5 },
    build: ({ x, weight, bias }) => linear(x, weight, bias),
    reference: ({ x, weight, bias }) => tabulate([5, 4], (i, j) => total(3, (k) => x(i, k) * weight(j, k)) + bias(j)),
  }),
  ...normCases,
  ...storedCases,
  ...attentionCases,
  ...decodingCases,
  opCase({
    op: afterOp,
    title: "of a value of the same shape",
    inputs: { x: randomTensor([3, 2], "x"), signal: randomTensor([3, 2], "signal") },
    shapes: { x: ["T", 2], signal: ["T", 2] },
    build: ({ x, signal }) => apply1(afterOp, [x, signal], null),
    reference: ({ x }) => tabulate([3, 2], x),
  }),
  ...lossCases,
];
