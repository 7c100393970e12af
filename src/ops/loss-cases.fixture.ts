import { apply1 } from "../core/graph.js";
import { f32, i32 } from "../core/tensor.js";
import { foretoldOp } from "./foretold.js";
import { linearCrossEntropyOp } from "./linear-cross-entropy.js";
import { crossEntropyOp, oneHotOp } from "./loss.js";
import { type OpCase, opCase } from "./op-case.fixture.js";
import { type At, tabulate, total } from "./reference.fixture.js";
import { randomTensor } from "./run-graph.fixture.js";

/** log Σ exp(logits) - logits[class] of a row of C logits. */
const lossOf = (C: number, logit: (j: number) => number, own: number): number => Math.log(total(C, (j) => Math.exp(logit(j) - logit(own))));

/** `rows` rows over a table of 7 classes: fewer rows than chunks, as many, and more than one a chunk, where the last chunks are short or empty. */
function linearCase(rows: number, chunks: number, least: number): OpCase {
  const inputs = {
    hidden: randomTensor([rows, 3], "hidden", -2, 2),
    table: randomTensor([7, 3], "table", -2, 2),
    classes: i32(Int32Array.from({ length: rows }, (_, i) => (3 * i + 1) % 7)),
    bias: randomTensor([7], "bias", -2, 2),
  };
  const logit = ({ hidden, table, bias }: Readonly<Record<"hidden" | "table" | "bias", At>>, i: number, j: number): number =>
    bias(j) + total(3, (d) => hidden(i, d) * table(j, d));
  return opCase({
    op: linearCrossEntropyOp,
    title: `${rows} rows in ${chunks} chunks of ${least} at least`,
    inputs,
    shapes: { hidden: ["L", 3], classes: ["L"] },
    sizes: { L: rows },
    fixed: ["table", "bias"],
    build: ({ hidden, table, classes, bias }) => apply1(linearCrossEntropyOp, [hidden, table, classes, bias], { chunks, least }),
    reference: (at) => tabulate([rows, 1], (i) => lossOf(7, (j) => logit(at, i, j), at.classes(i))),
  });
}

/** A row's number of foretold: its loss, or of its likeliest classes, the first of equals before the others, one's id or log-probability. */
function foretoldAt(C: number, logit: (j: number) => number, own: number, column: number): number {
  const lossOfClass = (j: number): number => lossOf(C, logit, j);
  if (column === 0) return own < 0 ? Number.NaN : lossOfClass(own);
  const order = Array.from({ length: C }, (_, j) => j).sort((a, b) => logit(b) - logit(a) || a - b);
  const id = order[Math.floor((column - 1) / 2)]!;
  return column % 2 === 1 ? id : -lossOfClass(id);
}

/** `rows` rows over a table of 7 classes, of which the last two are equal and the likeliest of some rows; every other row's class is not known. */
function foretoldCase(rows: number, top: number, biased: boolean): OpCase {
  const weights = randomTensor([7, 3], "table", -2, 2);
  weights.data.copyWithin(18, 15, 18);
  const inputs = {
    hidden: randomTensor([rows, 3], "hidden", -2, 2),
    table: weights,
    classes: i32(Int32Array.from({ length: rows }, (_, i) => (i % 2 === 0 ? (3 * i + 1) % 7 : -1))),
    bias: f32(biased ? [1, -1, 0.5, 2, 0, 1, 1] : [0, 0, 0, 0, 0, 0, 0]),
  };
  return opCase({
    op: foretoldOp,
    title: `${rows} rows in chunks, ${top} classes, ${biased ? "with" : "without"} a bias`,
    inputs,
    shapes: { hidden: ["L", 3], classes: ["L"] },
    sizes: { L: rows },
    fixed: ["hidden", "table", "bias"],
    build: ({ hidden, table, classes, bias }) =>
      apply1(foretoldOp, [hidden, classes, table, ...(biased ? [bias] : [])], { top, chunks: 4, least: 2 }),
    reference: ({ hidden, table, classes, bias }) =>
      tabulate([rows, 1 + 2 * top], (i, column) =>
        foretoldAt(7, (j) => bias(j) + total(3, (d) => hidden(i, d) * table(j, d)), classes(i), column!),
      ),
  });
}

/** Cases of the ops in loss.ts, linear-cross-entropy.ts and foretold.ts. */
export const lossCases: readonly OpCase[] = [
  foretoldCase(3, 1, true),
  foretoldCase(11, 5, true),
  foretoldCase(1, 7, false),
  opCase({
    op: foretoldOp,
    title: "of logits as they are, as far apart as 200",
    inputs: { logits: f32([100, -100, 0.5, 3, 3, -2], [2, 3]), classes: i32([1, 2]) },
    shapes: { logits: ["L", 3], classes: ["L"] },
    sizes: { L: 2 },
    fixed: ["logits"],
    build: ({ logits, classes }) => apply1(foretoldOp, [logits, classes], { top: 2, chunks: 4, least: 1 }),
    reference: ({ logits, classes }) => tabulate([2, 5], (i, column) => foretoldAt(3, (j) => logits(i, j), classes(i), column!)),
  }),
  linearCase(3, 8, 1),
  linearCase(8, 8, 1),
  linearCase(11, 4, 1),
  linearCase(5, 8, 128),
  opCase({
    op: linearCrossEntropyOp,
    title: "without a bias, logits as far apart as 200",
    inputs: { hidden: f32([1, 0, -1, 0.5], [2, 2]), table: f32([100, 0, -100, 0, 3, 1], [3, 2]), classes: i32([1, 0]) },
    fixed: ["hidden", "table"],
    build: ({ hidden, table, classes }) => apply1(linearCrossEntropyOp, [hidden, table, classes], { chunks: 2, least: 1 }),
    reference: ({ hidden, table, classes }) =>
      tabulate([2, 1], (i) => lossOf(3, (j) => hidden(i, 0) * table(j, 0) + hidden(i, 1) * table(j, 1), classes(i))),
  }),
  opCase({
    op: crossEntropyOp,
    title: "of each row",
    inputs: { logits: randomTensor([3, 5], "logits", -3, 3), classes: i32([4, 0, 2]) },
    shapes: { logits: ["L", 5], classes: ["L"] },
    sizes: { L: 3 },
    build: ({ logits, classes }) => apply1(crossEntropyOp, [logits, classes], null),
    reference: ({ logits, classes }) => tabulate([3, 1], (i) => Math.log(total(5, (j) => Math.exp(logits(i, j) - logits(i, classes(i)))))),
  }),
  opCase({
    op: crossEntropyOp,
    title: "of logits as large as ±50",
    inputs: { logits: f32([50, -50, 49.5, -50, 50, 0, 50, 50, -50], [3, 3]), classes: i32([0, 0, 2]) },
    fixed: ["logits"],
    build: ({ logits, classes }) => apply1(crossEntropyOp, [logits, classes], null),
    reference: ({ logits, classes }) => tabulate([3, 1], (i) => Math.log(total(3, (j) => Math.exp(logits(i, j) - logits(i, classes(i)))))),
  }),
  opCase({
    op: oneHotOp,
    title: "of each row's class",
    inputs: { classes: i32([3, 0, 1, 3, 2]) },
    shapes: { classes: ["L"] },
    build: ({ classes }) => apply1(oneHotOp, [classes], { classes: 4 }),
    reference: ({ classes }) => tabulate([5, 4], (i, j) => (classes(i) === j ? 1 : 0)),
  }),
];
