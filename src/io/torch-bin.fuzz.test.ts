import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { sizeOf } from "../core/tensor.js";
import { WeightError } from "../errors.js";
import { memoryFiles } from "./memory-files.js";
import { floats, pickle, pickledDict, pickledTensor, torchFile } from "./torch-bin.fixture.js";
import { openTorch } from "./torch-bin.js";
import { writeTorch } from "./torch-bin-write.js";

type Random = (below: number) => number;

/** mulberry32, whole numbers in [0, below). */
function seeded(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return Math.floor((((x ^ (x >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const pick = <T>(random: Random, list: readonly T[]): T => list[random(list.length)]!;

/** Values of a view, by its definition; undefined where an element lies outside the storage, or where there are more than it has. */
function slowView(values: readonly number[], offset: number, shape: readonly number[], strides: readonly number[]): number[] | undefined {
  const places = shape.reduce<number[]>(
    (starts, size, axis) => starts.flatMap((start) => Array.from({ length: size }, (_, i) => start + i * strides[axis]!)),
    [offset],
  );
  if (places.length === 0) return [];
  return places.length > values.length || places.some((place) => place >= values.length)
    ? undefined
    : places.map((place) => values[place]!);
}

test("3000 views of a storage: what lies in it is read by the definition, the rest is refused", async () => {
  const random = seeded(7);
  const values = Array.from({ length: 24 }, (_, i) => i + 0.5);
  let read = 0;
  let contiguous = 0;
  for (let i = 0; i < 3000; i++) {
    const shape = Array.from({ length: random(4) }, () => random(12) % 6);
    // half of them row-major, with some strides changed
    const strides = shape.map((_, axis) => sizeOf(shape.slice(axis + 1))).map((stride) => (random(4) === 0 ? random(14) : stride));
    const offset = random(2) * random(30);
    const wanted = slowView(values, offset, shape, strides);
    const file = torchFile(pickledDict({ t: { count: 24, offset, shape, strides } }), { 0: floats(...values) });
    const context = `[${shape}] strides [${strides}] at ${offset}`;
    const got = await openTorch(memoryFiles("m", { f: file }), "f").then(
      (source) => source.readFloat32("t"),
      (error: unknown) => error,
    );
    if (wanted === undefined) expect(got, context).toBeInstanceOf(WeightError);
    else {
      expect(got, context).toEqual({ shape, data: Float32Array.from(wanted), dtype: "float32" });
      read++;
      if (wanted.length > 1 && wanted.every((value, k) => k === 0 || value === wanted[k - 1]! + 1)) contiguous++;
    }
  }
  expect(read).toBeGreaterThan(1000);
  expect(read - contiguous).toBeGreaterThan(500);
  expect(3000 - read).toBeGreaterThan(500);
});

/** Parts of the messages: each must turn up. */
const rules = [
  "no end record",
  "its directory is damaged",
  "its directory does not lie inside it",
  "does not lie inside it",
  "is encrypted",
  "is compressed",
  "has no header",
  "0 files data.pkl",
  "of Python's globals only those",
  "which can run code",
  "which files of tensors do not need",
  "it takes from an empty stack",
  "it asks for a mark",
  "does not end with one value",
  "goes on after its end",
  "ends too early",
  "which was never put",
  "something else than a dict",
  "not UTF-8",
  "it calls",
  "has arguments that torch.save does not give",
  "holds no dict of tensors",
  "is no tensor",
  "a key that is no text",
  "ends outside its storage",
  "repeats the",
  "is not in the archive",
  "bytes, expected",
  "byteorder is",
];

/** Pieces of pickles that are right somewhere. */
const pieces = ["N", "(", "t", ")", "}", "]", "R", "Q", "b", "u", "s", "K\x02", "\x85", "\x86", "h\x00", "q\x00", "\x81", "i", "."].concat(
  "ccollections\nOrderedDict\n)R",
  "ctorch._utils\n_rebuild_tensor_v2\n",
  "ctorch\nHalfStorage\n",
  "cos\nsystem\n",
);

/** One change of bytes. */
function mutate(bytes: Uint8Array, random: Random, near: number): Uint8Array {
  const at = Math.max(0, random(3) === 0 ? near - random(80) : random(bytes.length + 1));
  const cut = (end: number, ...insert: number[]): Uint8Array => Uint8Array.from([...bytes.slice(0, at), ...insert, ...bytes.slice(end)]);
  const kind = random(6);
  if (kind === 0) return cut(at + 1, (bytes[at] ?? 0) ^ (1 << random(8)));
  if (kind === 1) return cut(at, ...Array.from({ length: 1 + random(4) }, () => random(256)));
  if (kind === 2) return cut(at + 1 + random(4));
  if (kind === 3) return cut(at + 1, pick(random, [0, 1, 2, 255]));
  if (kind === 4) return cut(at + random(3), ...pickle(pick(random, pieces)));
  return random(4) === 0 ? bytes.slice(0, at) : cut(at + 2, ...bytes.slice(Math.max(0, at - 2), at));
}

const saved = new Uint8Array(readFileSync(new URL("fixtures/torch-save.bin", import.meta.url)));
const two = { count: 2, shape: [2], strides: [1] };
const pickles = [
  pickledDict({ a: two, b: { ...two, shape: [1, 2], strides: [2, 1] } }),
  pickledDict({ a: two, b: { ...two, shape: [1, 2], strides: [0, 1] } }),
  Uint8Array.from([...pickle("\x80\x02}q\x00}", { text: "v" }, "K\x01sb", { text: "a" }), ...pickledTensor(two), ...pickle("s.")]),
  pickle("\x80\x04}\x94(\x8c\x01a}K\x02]K\x03eu."),
  pickle("\x80\x02}."),
];

/** A damaged file: the whole of one that torch or this writer made, or an archive around a damaged pickle. */
function damaged(random: Random): Uint8Array {
  const changes = 1 + random(3);
  const kind = random(4);
  if (kind < 2) {
    let file = kind === 0 ? saved : writeTorch([["a", { shape: [2], data: Float32Array.of(1, 2), dtype: "float32" }]]);
    for (let i = 0; i < changes; i++) file = Uint8Array.from(mutate(file, random, file.length));
    return file;
  }
  let inner: Uint8Array = pick(random, pickles);
  for (let i = 0; i < changes; i++) inner = mutate(inner, random, inner.length);
  return torchFile(inner, { 0: floats(1, 2) }, random(20) === 0 ? { byteorder: "big" } : undefined);
}

test("10000 damaged files are refused with a WeightError, or their tensors can be read", async () => {
  const random = seeded(20240612);
  let accepted = 0;
  const reached = new Set<string>();
  for (let i = 0; i < 10_000; i++) {
    const file = damaged(random);
    const context = (): string => `case ${i}: ${JSON.stringify(Buffer.from(file).toString("latin1"))}`;
    try {
      const source = await openTorch(memoryFiles("fuzz", { file }), "file");
      for (const [name, { dtype, shape }] of source.tensors) {
        if (!/F/.test(dtype)) continue;
        const tensor = await source.readFloat32(name);
        if (tensor.data.length !== sizeOf(shape) || tensor.data.length > file.length) throw new Error(`${name} has ${tensor.data.length}`);
      }
      accepted++;
    } catch (error) {
      // A FileError would mean that the reader asked for bytes outside the file, a RangeError that it allocated by a number it had not checked.
      if (!(error instanceof WeightError)) throw new Error(context(), { cause: error });
      expect(error.message).toMatch(/^fuzz\/file[: ]/);
      for (const rule of rules) if (error.message.includes(rule)) reached.add(rule);
    }
  }
  // The changes must reach both outcomes and all rules, or the test says little.
  expect(rules.filter((rule) => !reached.has(rule))).toEqual([]);
  expect(accepted).toBeGreaterThan(500);
  expect(10_000 - accepted).toBeGreaterThan(5000);
}, 60_000);
