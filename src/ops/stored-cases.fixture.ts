import { apply1, input, type Value } from "../core/graph.js";
import { f32, type Tensor } from "../core/tensor.js";
import { blockProductOp, rowPartsOp } from "./block-product.js";
import { type DenseForm, denseProductOp } from "./dense-form.js";
import { type OpCase, opCase } from "./op-case.fixture.js";
import { q8ProductOp } from "./q8.js";
import { type At, type Reference, reader, tabulate, total } from "./reference.fixture.js";
import { randomTensor } from "./run-graph.fixture.js";
import type { StoredMatrix, WeightForm } from "./weight-form.js";

/** A matrix whose parts are inputs by their names, and the tensors to feed: those that a graph came to ask for. */
export function storedInputs(
  form: WeightForm,
  matrix: Tensor<"float32">,
): { readonly stored: StoredMatrix; readonly feeds: Record<string, Tensor> } {
  const feeds: Record<string, Tensor> = {};
  const values = new Map<string, Value>();
  const [R, C] = [matrix.shape[0]!, matrix.shape[1]!];
  const stored: StoredMatrix = {
    shape: [R, C],
    part: (name, type) => {
      const value = values.get(name) ?? input(name, type.dtype, type.shape);
      values.set(name, value);
      feeds[name] = form.store(matrix, [name], "matrix")[name]!;
      return value;
    },
  };
  return { stored, feeds };
}

/** Rows x [T, K] as q8 rounds them: steps of max|x| / 127 in float32, ties to even. */
export function roundedRows(x: At, T: number, K: number): Reference {
  const steps = Array.from({ length: T }, (_, i) => {
    const most = Math.max(1e-30, ...Array.from({ length: K }, (_, k) => Math.abs(x(i, k))));
    return Math.fround(Math.fround(most) * Math.fround(1 / 127));
  });
  return tabulate([T, K], (i, k) => steps[i]! * evenRound(Math.fround(x(i, k) / steps[i]!)));
}

function evenRound(x: number): number {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2 === 0 ? 0 : 1) : Math.round(x);
}

const x = randomTensor([5, 6], "x", -2, 2);
x.data.set([0, 0, 0, 0, 0, 0], 6); // a row of zeros
x.data[14] = 300; // an outlier, which is of no concern to other rows
const weight: Tensor = { dtype: "int8", shape: [6, 4], data: Int8Array.from({ length: 24 }, (_, i) => ((i * 89) % 255) - 127) };
const scales = f32([0.01, 0.5, 0, 2]);
const addend = randomTensor([4], "addend");
const unused: StoredMatrix = {
  shape: [4, 6],
  part: (name) => {
    throw new Error(`a forward pass asked for ${name}`);
  },
};

/** Whole numbers, stored as bytes. */
export const bytesForm: DenseForm = {
  name: "bytes",
  parts: (shape) => ({ bytes: { dtype: "int8", shape } }),
  quantize: ({ shape, data }) => ({ bytes: { dtype: "int8", shape, data: Int8Array.from(data) } }),
  dequantize: ({ bytes }) => Float32Array.from(bytes!.data, Number),
  dense: (e, { bytes }) => e.node("Cast", [bytes!], { to: 1 })[0]!,
};
const bytes: Tensor = { dtype: "int8", shape: [4, 6], data: Int8Array.from({ length: 24 }, (_, i) => ((i * 5) % 7) - 3) };

/** Rows with a largest magnitude of 127, so that the kernel's steps are 1. */
const wholeRows = f32(
  Float32Array.from({ length: 64 }, (_, i) => (i % 32 === 0 ? 127 : ((i * 37) % 201) - 100)),
  [2, 32],
);
const blockCodes: Tensor = { dtype: "uint8", shape: [3, 1, 32], data: Uint8Array.from({ length: 96 }, (_, i) => (i * 89) % 256) };

/** Products with stored matrices. */
export const storedCases: readonly OpCase[] = [
  opCase({
    op: q8ProductOp,
    title: "rows rounded one by one, a row of zeros and an outlier among them",
    inputs: { x, weight, scales, addend },
    shapes: { x: ["T", 6] },
    straightThrough: true,
    build: ({ x, weight, scales, addend }) =>
      apply1(q8ProductOp, [x, weight, scales, addend], { matrix: unused, transB: true, alpha: 0.5 }),
    reference: ({ x, weight, scales, addend }) => {
      const rows = reader(f32(Float32Array.from(roundedRows(x, 5, 6).data), [5, 6]));
      return tabulate([5, 4], (i, n) => 0.5 * scales(n) * total(6, (k) => rows(i, k) * weight(k, n)) + addend(n));
    },
  }),
  opCase({
    op: rowPartsOp,
    title: "whole numbers, of which 8 bits lose nothing, before zeros",
    inputs: { x: wholeRows },
    shapes: { x: ["T", 32] },
    build: ({ x }) => apply1(rowPartsOp, [x], { bits: 8 }),
    reference: ({ x }) => tabulate([2, 2, 32], (part, i, k) => (part === 0 ? x(i, k) : 0)),
  }),
  opCase({
    op: blockProductOp,
    title: "whole numbers, which 8 bits hold exactly, in one block",
    inputs: {
      ...{ x: wholeRows, codes: blockCodes, steps: f32([0.5, 2, 0.25], [3, 1]) },
      zeros: { dtype: "uint8", shape: [3, 1], data: Uint8Array.of(128, 0, 97) } as Tensor,
    },
    shapes: { x: ["T", 32] },
    build: ({ x, codes, steps, zeros }) => apply1(blockProductOp, [x, codes, steps, zeros], { bits: 8, K: 32, N: 3, inParts: false }),
    reference: ({ x, codes, steps, zeros }) =>
      tabulate([2, 3], (i, n) => steps(n, 0) * total(32, (k) => x(i, k) * (codes(n, 0, k) - zeros(n, 0)))),
  }),
  opCase({
    op: blockProductOp,
    title: "codes of 4 bits, and rows in two parts",
    inputs: {
      ...{
        x: { ...wholeRows, shape: [2, 1, 32] },
        codes: { dtype: "uint8", shape: [3, 1, 16], data: blockCodes.data.slice(0, 48) } as Tensor,
      },
      steps: f32([0.5, 2, 0.25], [3, 1]),
    },
    build: ({ x, codes, steps }) => apply1(blockProductOp, [x, codes, steps], { bits: 4, K: 32, N: 3, inParts: true }),
    reference: ({ x, codes, steps }) => {
      const code = (n: number, k: number): number => (codes(n, 0, k >> 1) >> (k % 2 === 0 ? 0 : 4)) & 15;
      return tabulate([1, 3], (_, n) => total(32, (k) => (x(0, 0, k) + x(1, 0, k)) * steps(n, 0) * (code(n, k) - 8)));
    },
  }),
  ...[true, false].map((transB) => {
    const [K, N] = transB ? [6, 4] : [4, 6];
    return opCase({
      op: denseProductOp,
      title: transB ? "x·Mᵀ and an addend" : "x·M and an addend",
      inputs: { x: randomTensor([5, K], "x"), addend: randomTensor([N], "addend"), bytes },
      shapes: { x: ["T", K] },
      sizes: { T: 5 },
      build: ({ x, addend, bytes }) => {
        const matrix: StoredMatrix = { shape: [4, 6], part: () => bytes };
        return apply1(denseProductOp, [x, bytes, addend], { form: bytesForm, matrix, transB, alpha: 0.5 });
      },
      reference: ({ x, addend, bytes }) =>
        tabulate([5, N], (i, n) => 0.5 * total(K, (k) => x(i, k) * (transB ? bytes(n, k) : bytes(k, n))) + addend(n)),
    });
  }),
];
