import { apply1 } from "../core/graph.js";
import { f32, i32 } from "../core/tensor.js";
import { attentionMaskOp, headPadOp, headTokenOp, padRowsOp, slotMaskOp, stripMaskOp, unpadRowsOp } from "./attention.js";
import { mul } from "./elementwise.js";
import { type OpCase, opCase } from "./op-case.fixture.js";
import { tabulate } from "./reference.fixture.js";
import { randomTensor } from "./run-graph.fixture.js";

const packing = { padIndex: i32([0, 1, 4, 2, 3, 4]), tokenIndex: i32([0, 1, 3, 4, 5]), rowMask: f32([1, 1, 0, 1, 1, 1], [6, 1]) };

/** The lowest float32. */
const hidden = -(2 - 2 ** -23) * 2 ** 127;

/** Ops that regroup packed rows for attention. Texts of 3, 1 and 4 tokens have 12 places; two heads have 24. */
export const attentionCases: readonly OpCase[] = [
  opCase({
    op: padRowsOp,
    title: "in a place where padding gets no gradient",
    inputs: { x: randomTensor([5, 2], "x"), ...packing },
    shapes: { x: ["T", 2], padIndex: ["P"], tokenIndex: ["T"], rowMask: ["P", 1] },
    sizes: { T: 5, P: 6 },
    fixed: ["rowMask"],
    build: ({ x, padIndex, tokenIndex, rowMask }) => mul(apply1(padRowsOp, [x, padIndex, tokenIndex], null), rowMask),
    reference: ({ x, padIndex, rowMask }) => tabulate([6, 2], (i, j) => x(padIndex(i), j) * rowMask(i, 0)),
  }),
  opCase({
    op: unpadRowsOp,
    title: "drops padding",
    inputs: { y: randomTensor([6, 2], "y"), ...packing },
    shapes: { y: ["P", 2], padIndex: ["P"], tokenIndex: ["T"], rowMask: ["P", 1] },
    sizes: { T: 5, P: 6 },
    fixed: ["rowMask"],
    build: ({ y, tokenIndex, padIndex, rowMask }) => apply1(unpadRowsOp, [y, tokenIndex, padIndex, rowMask], null),
    reference: ({ y, tokenIndex }) => tabulate([5, 2], (i, j) => y(tokenIndex(i), j)),
  }),
  ...[null, 2].map((window) =>
    opCase({
      op: slotMaskOp,
      title: `hides later slots, and those outside a window of ${window}`,
      inputs: { queries: i32([3, 4, 1, 2], [2, 2]), keys: i32([-1, 0, 1, 2, 3, 4, -1, 0, 9, 9, 1, 2], [2, 6]) },
      shapes: { queries: ["B", "S"], keys: ["B", "P"] },
      build: ({ queries, keys }) => apply1(slotMaskOp, [queries, keys], { window }),
      reference: ({ queries, keys }) =>
        tabulate([2, 1, 2, 6], (b, _, s, k) =>
          keys(b, k) <= queries(b, s) && (window === null || keys(b, k) > queries(b, s) - window) ? 0 : hidden,
        ),
    }),
  ),
  ...[
    { causal: false, window: null },
    { causal: true, window: null },
    { causal: true, window: 2 },
  ].map(({ causal, window }) =>
    opCase({
      op: stripMaskOp,
      title: `shows a text's own places, causal ${causal}, window ${window}`,
      inputs: { texts: i32([2, 2, 2, 0, 0, 1, -1, -1, -1, -1], [2, 5]), positions: i32([0, 1, 2, 0, 1, 0, 0, 0, 0, 0], [2, 5]) },
      shapes: { texts: ["A", "W"], positions: ["A", "W"] },
      build: ({ texts, positions }) => apply1(stripMaskOp, [texts, positions], { causal, window }),
      reference: ({ texts, positions: at }) =>
        tabulate([2, 1, 5, 5], (a, _, q, k) =>
          texts(a, q) === texts(a, k) && (!causal || at(a, k) <= at(a, q)) && (window === null || at(a, k) > at(a, q) - window)
            ? 0
            : hidden,
        ),
    }),
  ),
  opCase({
    op: attentionMaskOp,
    title: "hides the slots past each text's end",
    inputs: { slots: i32([0, 1, 2, 3]), lengths: i32([3, 1, 4]) },
    shapes: { slots: ["S"], lengths: ["B"] },
    build: ({ slots, lengths }) => apply1(attentionMaskOp, [slots, lengths], { causal: false, window: null, ahead: 0 }),
    reference: ({ lengths }) => tabulate([3, 1, 1, 4], (b, _, __, s) => (s < lengths(b) ? 0 : hidden)),
  }),
  opCase({
    op: attentionMaskOp,
    title: "shows keys in front of the texts",
    inputs: { slots: i32([0, 1, 2]), lengths: i32([3, 1]) },
    shapes: { slots: ["S"], lengths: ["B"] },
    build: ({ slots, lengths }) => apply1(attentionMaskOp, [slots, lengths], { causal: false, window: null, ahead: 2 }),
    reference: ({ lengths }) => tabulate([2, 1, 1, 5], (b, _, __, s) => (s < 2 + lengths(b) ? 0 : hidden)),
  }),
  opCase({
    op: attentionMaskOp,
    title: "hides what comes later",
    inputs: { slots: i32([0, 1, 2, 3]), lengths: i32([4, 2]) },
    shapes: { slots: ["S"], lengths: ["B"] },
    build: ({ slots, lengths }) => apply1(attentionMaskOp, [slots, lengths], { causal: true, window: null, ahead: 1 }),
    reference: () => tabulate([1, 1, 4, 5], (_, __, i, j) => (j <= i + 1 ? 0 : hidden)),
  }),
  opCase({
    op: attentionMaskOp,
    title: "hides what lies before the window",
    inputs: { slots: i32([0, 1, 2, 3, 4]), lengths: i32([5]) },
    shapes: { slots: ["S"], lengths: ["B"] },
    build: ({ slots, lengths }) => apply1(attentionMaskOp, [slots, lengths], { causal: true, window: 2, ahead: 2 }),
    reference: () => tabulate([1, 1, 5, 7], (_, __, i, j) => (j <= i + 2 && j > i ? 0 : hidden)),
  }),
  opCase({
    op: headPadOp,
    title: "lists the heads' rows text by text, head by head",
    inputs: { padIndex: i32([0, 1, 2, 0, 3, 0, 0, 0, 4, 5, 6, 7]), lengths: i32([3, 1, 4]), slots: i32([0, 1, 2, 3]) },
    shapes: { padIndex: ["B*S"], lengths: ["B"], slots: ["S"] },
    build: ({ padIndex, lengths, slots }) => apply1(headPadOp, [padIndex, lengths, slots], { heads: 2 }),
    reference: ({ padIndex }) => tabulate([24], (i) => 2 * padIndex(Math.floor(i / 8) * 4 + (i % 4)) + (Math.floor(i / 4) % 2)),
  }),
  opCase({
    op: headTokenOp,
    title: "finds the place of each token's heads",
    inputs: { tokenIndex: i32([0, 1, 2, 4, 8, 9, 10, 11]), slots: i32([0, 1, 2, 3]) },
    shapes: { tokenIndex: ["T"], slots: ["S"] },
    build: ({ tokenIndex, slots }) => apply1(headTokenOp, [tokenIndex, slots], { heads: 2 }),
    reference: ({ tokenIndex }) =>
      tabulate([16], (i) => {
        const place = tokenIndex(Math.floor(i / 2));
        return (Math.floor(place / 4) * 2 + (i % 2)) * 4 + (place % 4);
      }),
  }),
];
