import { afterAll, describe, expect, it } from "vitest";
import { type BatchInputs, batchInputs } from "../core/batch.js";
import { input, type Value } from "../core/graph.js";
import { type Feeds, f32, i32 } from "../core/tensor.js";
import { ShapeError } from "../errors.js";
import { attend, attentionMask, headPlaces, mergeHeads, splitHeads } from "./attention.js";
import { mul } from "./elementwise.js";
import { type At, type Reference, reader, tabulate, total } from "./reference.fixture.js";
import { expectClose, expectGradient, gradcheck, randomTensor, runGraph, testRuntime } from "./run-graph.fixture.js";

const runtime = testRuntime();
afterAll(() => runtime.close());

const lengths = [3, 1, 4];
const starts = [0, 3, 4];
const [heads, headDim, T, B, S] = [2, 3, 8, 3, 4];
const width = heads * headDim;
const qkv = { q: randomTensor([T, width], "q", -2, 2), k: randomTensor([T, width], "k", -2, 2), v: randomTensor([T, width], "v", -2, 2) };
const shapes = {
  q: ["T", width],
  k: ["T", width],
  v: ["T", width],
  padIndex: ["B*S"],
  tokenIndex: ["T"],
  rowMask: ["B*S", 1],
  lengths: ["B"],
  slots: ["S"],
};

/** The batch's index maps; places of padding read the row `pad`. */
function packed(pad: number): Feeds {
  const places = Array.from({ length: B * S }, (_, place) => ({ text: Math.floor(place / S), slot: place % S }));
  return {
    padIndex: i32(places.map(({ text, slot }) => (slot < lengths[text]! ? starts[text]! + slot : pad))),
    tokenIndex: i32(places.flatMap(({ text, slot }, place) => (slot < lengths[text]! ? [place] : []))),
    rowMask: f32(
      places.map(({ text, slot }) => (slot < lengths[text]! ? 1 : 0)),
      [B * S, 1],
    ),
    lengths: i32(lengths),
    slots: i32([0, 1, 2, 3]),
  };
}

function attention(values: Readonly<Record<string, Value>>, dropout: (p: Value) => Value = (p) => p): Value {
  const { q, k, v, padIndex, tokenIndex, rowMask, lengths, slots } = values;
  const batch: BatchInputs = {
    ...batchInputs(false),
    padIndex: padIndex!,
    tokenIndex: tokenIndex!,
    rowMask: rowMask!,
    lengths: lengths!,
    slots: slots!,
  };
  const places = headPlaces(batch, heads);
  const split = (x: Value): Value => splitHeads(x, places);
  return mergeHeads(
    attend(split(q!), split(k!), split(v!), attentionMask(batch, { causal: false, window: null, ahead: 0 }), dropout),
    places,
  );
}

/** Attention of each text by itself, in float64: softmax(q·kᵀ/√K)·v. */
function reference(q: At, k: At, v: At): Reference {
  return tabulate([T, width], (row, column) => {
    const text = starts.findLastIndex((start) => start <= row);
    const [start, length] = [starts[text]!, lengths[text]!];
    const first = Math.floor(column / headDim) * headDim;
    const weight = (other: number): number =>
      Math.exp(total(headDim, (i) => q(row, first + i) * k(start + other, first + i)) / Math.sqrt(headDim));
    return total(length, (other) => weight(other) * v(start + other, column)) / total(length, weight);
  });
}

describe("attention over a packed batch", () => {
  const values = Object.fromEntries(
    Object.entries({ ...qkv, ...packed(0) }).map(([name, { dtype }]) => [name, input(name, dtype, shapes[name as keyof typeof shapes])]),
  );

  it.each([0, 5])("is attention of each text by itself, whichever row padding reads (%i)", async (pad) => {
    const { y } = await runGraph(runtime, { y: attention(values) }, { ...qkv, ...packed(pad) });
    expectClose(y, reference(reader(qkv.q), reader(qkv.k), reader(qkv.v)), 3e-6);
  });

  it.each([0, 5])("has the gradient of central differences, whichever row padding reads (%i)", async (pad) => {
    expectGradient(await gradcheck(runtime, { inputs: qkv, others: packed(pad), shapes, sizes: { T, B, S }, build: (v) => attention(v) }));
  });

  it("gives one text no gradient by another's tokens", async () => {
    const others = packed(5);
    const onlyThird = f32(
      Array.from({ length: T * width }, (_, i) => (i >= starts[2]! * width ? 1 : 0)),
      [T, width],
    );
    const moved = {
      ...qkv,
      k: f32(
        qkv.k.data.map((x, i) => (i < starts[2]! * width ? x + 1 : x)),
        [T, width],
      ),
    };
    const y = mul(attention({ ...values }), input("only", "float32", ["T", width]));
    const [before, after] = await Promise.all(
      [qkv, moved].map((each) => runGraph(runtime, { y }, { ...each, ...others, only: onlyThird })),
    );
    expect(after).toEqual(before);
  });

  it("drops probabilities where it is told to", async () => {
    const { y } = await runGraph(runtime, { y: attention(values, (p) => mul(p, mul(p, p))) }, { ...qkv, ...packed(0) });
    // Text 1 has one token: its probability is 1, and so is any power of it.
    for (let j = 0; j < width; j++) expect(y!.data[3 * width + j]).toBeCloseTo(reader(qkv.v)(3, j), 5);
    const whole = reference(reader(qkv.q), reader(qkv.k), reader(qkv.v));
    expect(Math.abs(Number(y!.data[0]) - whole.data[0]!)).toBeGreaterThan(1e-3);
  });
});

it("splitHeads refuses a width that the heads do not divide", () => {
  expect(() => splitHeads(input("x", "float32", ["T", 7]), headPlaces(batchInputs(false), 2))).toThrow(
    new ShapeError("splitHeads: got float32[T,7]; expected [T, D] with D a multiple of 2 heads"),
  );
});
