import { apply } from "../core/graph.js";
import { i32 } from "../core/tensor.js";
import { layerNorm, layerNormOp, rmsNorm, rmsNormOp } from "./norm.js";
import { type OpCase, opCase } from "./op-case.fixture.js";
import { type At, tabulate, total } from "./reference.fixture.js";
import { rotary, rotaryAnglesOp, rotaryOp } from "./rotary.js";
import { randomTensor } from "./run-graph.fixture.js";

const mean = (x: At, i: number): number => total(7, (j) => x(i, j)) / 7;
const inverseDeviation = (x: At, i: number): number => 1 / Math.sqrt(total(7, (j) => (x(i, j) - mean(x, i)) ** 2) / 7 + 1e-3);
const rootMeanSquare = (x: At, i: number): number => Math.sqrt(total(7, (j) => x(i, j) ** 2) / 7 + 1e-3);
const rows = { x: randomTensor([5, 7], "x"), weight: randomTensor([7], "weight", 0.5, 1.5), bias: randomTensor([7], "bias") };

/** Norms, and rotary positions. */
export const normCases: readonly OpCase[] = [
  opCase({
    op: layerNormOp,
    title: "normalises the last axis",
    inputs: rows,
    shapes: { x: ["T", 7] },
    sizes: { T: 5 },
    build: ({ x, weight, bias }) => layerNorm(x, weight, bias, 1e-3),
    reference: ({ x, weight, bias }) => tabulate([5, 7], (i, j) => (x(i, j) - mean(x, i)) * inverseDeviation(x, i) * weight(j) + bias(j)),
  }),
  opCase({
    op: layerNormOp,
    title: "gives the mean as output 1",
    inputs: rows,
    fixed: ["x", "weight", "bias"],
    build: ({ x, weight, bias }) => apply(layerNormOp, [x, weight, bias], { eps: 1e-3 })[1]!,
    reference: ({ x }) => tabulate([5, 1], (i) => mean(x, i)),
  }),
  opCase({
    op: layerNormOp,
    title: "gives the inverse deviation as output 2",
    inputs: rows,
    fixed: ["x", "weight", "bias"],
    build: ({ x, weight, bias }) => apply(layerNormOp, [x, weight, bias], { eps: 1e-3 })[2]!,
    reference: ({ x }) => tabulate([5, 1], (i) => inverseDeviation(x, i)),
  }),
  opCase({
    op: rmsNormOp,
    title: "divides the last axis by its root mean square",
    inputs: { x: rows.x, weight: rows.weight },
    shapes: { x: ["T", 7] },
    sizes: { T: 5 },
    build: ({ x, weight }) => rmsNorm(x, weight, 1e-3),
    reference: ({ x, weight }) => tabulate([5, 7], (i, j) => (x(i, j) * weight(j)) / rootMeanSquare(x, i)),
  }),
  opCase({
    op: rmsNormOp,
    title: "gives the inverse root mean square as output 1",
    inputs: { x: rows.x, weight: rows.weight },
    fixed: ["x", "weight"],
    build: ({ x, weight }) => apply(rmsNormOp, [x, weight], { eps: 1e-3 })[1]!,
    reference: ({ x }) => tabulate([5, 1], (i) => 1 / rootMeanSquare(x, i)),
  }),
  opCase({
    op: rotaryAnglesOp,
    title: "gives cosines as output 0",
    inputs: { positions: i32([0, 3, 7]) },
    shapes: { positions: ["T"] },
    build: ({ positions }) => apply(rotaryAnglesOp, [positions], { frequencies: [1, 0.25], scale: 1.5 })[0]!,
    reference: ({ positions }) => tabulate([3, 2], (i, j) => 1.5 * Math.cos(positions(i) * [1, 0.25][j]!)),
  }),
  opCase({
    op: rotaryAnglesOp,
    title: "gives sines as output 1",
    inputs: { positions: i32([0, 3, 7]) },
    shapes: { positions: ["T"] },
    build: ({ positions }) => apply(rotaryAnglesOp, [positions], { frequencies: [1, 0.25], scale: 1 })[1]!,
    reference: ({ positions }) => tabulate([3, 2], (i, j) => Math.sin(positions(i) * [1, 0.25][j]!)),
  }),
  opCase({
    op: rotaryOp,
    title: "turns the pairs of each head",
    inputs: { x: randomTensor([3, 8], "x"), cos: randomTensor([3, 2], "cos"), sin: randomTensor([3, 2], "sin") },
    shapes: { x: ["T", 8], cos: ["T", 2], sin: ["T", 2] },
    sizes: { T: 3 },
    fixed: ["cos", "sin"],
    build: ({ x, cos, sin }) => rotary(x, 2, { cos, sin }),
    reference: ({ x, cos, sin }) =>
      tabulate([3, 8], (i, j) => {
        const pair = j % 2;
        const other = j % 4 < 2 ? -x(i, j + 2) : x(i, j - 2);
        return x(i, j) * cos(i, pair) + other * sin(i, pair);
      }),
  }),
];
