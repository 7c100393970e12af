import { apply, type Value } from "../core/graph.js";
import { f32, i32 } from "../core/tensor.js";
import { cachedAttentionOp } from "./cached-attention.js";
import { layerNormOp, rmsNormOp } from "./norm.js";
import { type OpCase, opCase } from "./op-case.fixture.js";
import { type At, tabulate, total } from "./reference.fixture.js";
import { residualNormOp } from "./residual-norm.js";
import { randomTensor } from "./run-graph.fixture.js";

/** Two texts of two and one new tokens, with one slot cached: three packed rows, two heads that share one key, heads of two numbers. */
const lowest = -3e38;
const attention = {
  q: randomTensor([3, 4], "q", -2, 2),
  k: randomTensor([3, 2], "k", -2, 2),
  v: randomTensor([3, 2], "v"),
  // the second text's cached slot is empty, and its second place is padding
  mask: f32([0, 0, lowest, 0, 0, 0, lowest, 0, lowest, lowest, 0, lowest], [2, 1, 2, 3]),
  pastKey: randomTensor([2, 1, 1, 2], "pastKey"),
  pastValue: randomTensor([2, 1, 1, 2], "pastValue"),
  places: i32([0, 1, 2, 2], [2, 2]),
  tokenIndex: i32([0, 1, 2]),
  cos: f32([0.6, 0, -0.8], [3, 1]),
  sin: f32([0.8, 1, 0.6], [3, 1]),
};
type Attention = Readonly<Record<keyof typeof attention, At>>;
const attentionShapes = {
  ...{ q: ["T", 4], k: ["T", 2], v: ["T", 2], mask: ["B", 1, "S", "P+S"], pastKey: ["B", 1, "P", 2], pastValue: ["B", 1, "P", 2] },
  ...{ places: ["B", "S"], tokenIndex: ["T"], cos: ["T", 1], sin: ["T", 1] },
};

/** A row's number in a head, its pairs turned where they are to be. */
function turned(x: At, { cos, sin }: Attention, turns: boolean): (row: number, head: number, k: number) => number {
  return (row, head, k) => {
    const [a, b] = [x(row, 2 * head), x(row, 2 * head + 1)];
    if (!turns) return k === 0 ? a : b;
    return k === 0 ? a * cos(row, 0) - b * sin(row, 0) : b * cos(row, 0) + a * sin(row, 0);
  };
}

/** A text's key at a slot: the cached one, then the rows of its places. */
const keyAt =
  (all: Attention, turns: boolean) =>
  (b: number, slot: number, k: number): number =>
    slot === 0 ? all.pastKey(b, 0, 0, k) : turned(all.k, all, turns)(all.places(b, slot - 1), 0, k);

function context(all: Attention, turns: boolean): (row: number, column: number) => number {
  return (row, column) => {
    const [b, s, head] = [row < 2 ? 0 : 1, row % 2, Math.floor(column / 2)];
    const value = (slot: number): number => (slot === 0 ? all.pastValue(b, 0, 0, column % 2) : all.v(all.places(b, slot - 1), column % 2));
    const weight = (slot: number): number =>
      all.mask(b, 0, s, slot) < 0
        ? 0
        : Math.exp(total(2, (k) => turned(all.q, all, turns)(row, head, k) * keyAt(all, turns)(b, slot, k)) / Math.SQRT2);
    return total(3, (slot) => weight(slot) * value(slot)) / total(3, weight);
  };
}

const attentionOf = (values: Readonly<Record<keyof typeof attention, Value>>, turns: boolean): readonly Value[] => {
  const { cos, sin, ...rest } = values;
  return apply(cachedAttentionOp, [...Object.values(rest), ...(turns ? [cos, sin] : [])], { heads: 2, kvHeads: 1 });
};

const rows = {
  a: randomTensor([5, 7], "a"),
  b: randomTensor([5, 7], "b"),
  weight: randomTensor([7], "w"),
  bias: randomTensor([7], "bias"),
};
const sumOf =
  ({ a, b }: { readonly a: At; readonly b: At }) =>
  (i: number, j: number): number =>
    a(i, j) + b(i, j);

/** Ops of graphs that continue texts. */
export const decodingCases: readonly OpCase[] = [
  ...[true, false].flatMap((turns) => [
    opCase({
      op: cachedAttentionOp,
      title: `gives the context as output 0${turns ? ", of rotated queries and keys" : ""}`,
      inputs: attention,
      shapes: attentionShapes,
      build: (values) => attentionOf(values, turns)[0]!,
      reference: (all) => tabulate([3, 4], context(all, turns)),
    }),
    opCase({
      op: cachedAttentionOp,
      title: `gives all keys as output 1${turns ? ", rotated" : ""}`,
      inputs: attention,
      shapes: attentionShapes,
      build: (values) => attentionOf(values, turns)[1]!,
      reference: (all) => tabulate([2, 1, 3, 2], (b, _, slot, k) => keyAt(all, turns)(b, slot, k)),
    }),
  ]),
  opCase({
    op: residualNormOp,
    title: "gives the layer norm of a sum as output 0",
    inputs: rows,
    shapes: { a: ["T", 7], b: ["T", 7] },
    build: ({ a, b, weight, bias }) => apply(residualNormOp, [a, b, weight, bias], { op: layerNormOp, eps: 1e-3 })[0]!,
    reference: ({ a, b, weight, bias }) => {
      const x = sumOf({ a, b });
      const mean = (i: number): number => total(7, (j) => x(i, j)) / 7;
      const deviation = (i: number): number => Math.sqrt(total(7, (j) => (x(i, j) - mean(i)) ** 2) / 7 + 1e-3);
      return tabulate([5, 7], (i, j) => ((x(i, j) - mean(i)) / deviation(i)) * weight(j) + bias(j));
    },
  }),
  opCase({
    op: residualNormOp,
    title: "gives the root mean square norm of a sum as output 0",
    inputs: { a: rows.a, b: rows.b, weight: rows.weight },
    shapes: { a: ["T", 7], b: ["T", 7] },
    build: ({ a, b, weight }) => apply(residualNormOp, [a, b, weight], { op: rmsNormOp, eps: 1e-3 })[0]!,
    reference: ({ a, b, weight }) => {
      const x = sumOf({ a, b });
      return tabulate([5, 7], (i, j) => (x(i, j) * weight(j)) / Math.sqrt(total(7, (k) => x(i, k) ** 2) / 7 + 1e-3));
    },
  }),
  opCase({
    op: residualNormOp,
    title: "gives the sum as output 1",
    inputs: { a: rows.a, b: rows.b, weight: rows.weight },
    shapes: { a: ["T", 7], b: ["T", 7] },
    build: ({ a, b, weight }) => apply(residualNormOp, [a, b, weight], { op: rmsNormOp, eps: 1e-3 })[1]!,
    reference: (all) => tabulate([5, 7], sumOf(all)),
  }),
];
