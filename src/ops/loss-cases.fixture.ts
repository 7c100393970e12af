import { apply1 } from "../core/graph.js";
import { f32, i32 } from "../core/tensor.js";
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

/** Cases of the ops in loss.ts and linear-cross-entropy.ts. */
export const lossCases: readonly OpCase[] = [
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
