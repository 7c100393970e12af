import { expect, test } from "vitest";
import { WeightError } from "../errors.js";
import type { Files } from "./files.js";
import { memoryFiles } from "./memory-files.js";
import { openSafetensors, writeSafetensors } from "./safetensors.js";

/** Ten thousand damaged files: the reader must accept exactly what the oracle below accepts, and give exactly the bytes that the oracle gives. */
const CASES = 10_000;

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

interface Expected {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** What an entry should be; the oracle checks that it is. */
interface Claim {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/** The format's rules, the slow way and by other means than the reader: BigInt sizes, one owner per byte, re-serialising to see duplicates. */
function oracle(file: Uint8Array): Map<string, Expected> | undefined {
  if (file.length < 8) return undefined;
  let length = 0n;
  for (let i = 7; i >= 0; i--) length = length * 256n + BigInt(file[i]!);
  if (length > 100_000_000n || length + 8n > BigInt(file.length)) return undefined;
  const dataStart = 8 + Number(length);
  const header = Buffer.from(file.subarray(8, dataStart));
  const text = header.toString("utf8");
  if (!Buffer.from(text, "utf8").equals(header) || !text.startsWith("{")) return undefined;
  let parsed: Record<string, Claim>;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  const strings = /"(?:[^"\\]|\\.)*"/g;
  if (text.match(strings)?.length !== JSON.stringify(parsed).match(strings)?.length) return undefined; // a duplicate key was dropped
  if (/[-+.eE]/.test(text.replace(strings, "").replace(/true|false|null/g, ""))) return undefined; // a number that is no count
  const data = file.subarray(dataStart);
  const owner = new Array<string | undefined>(data.length).fill(undefined);
  const tensors = new Map<string, Expected>();
  const widths: Record<string, bigint> = { F64: 8n, F32: 4n, F16: 2n, BF16: 2n, I64: 8n, I32: 4n, I16: 2n, I8: 1n, U8: 1n, BOOL: 1n };
  const count = (x: unknown): boolean => typeof x === "number" && Number.isInteger(x) && x >= 0 && x <= Number.MAX_SAFE_INTEGER;
  try {
    for (const name of Object.keys(parsed)) {
      const entry = parsed[name]!;
      encodeURIComponent(name); // throws on half a surrogate pair
      if (typeof entry !== "object" || entry === null || Array.isArray(entry)) return undefined;
      if (name === "__metadata__") {
        for (const [key, value] of Object.entries(entry)) {
          if (typeof value !== "string") return undefined;
          encodeURIComponent(key + value);
        }
        continue;
      }
      const width = Object.entries(widths).find(([dtype]) => dtype === entry.dtype)?.[1];
      if (width === undefined || !Array.isArray(entry.shape) || !entry.shape.every(count)) return undefined;
      if (!Array.isArray(entry.data_offsets) || entry.data_offsets.length !== 2 || !entry.data_offsets.every(count)) return undefined;
      let size = width;
      for (const dim of entry.shape) {
        size *= BigInt(dim);
        if (size > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
      }
      const [begin, end] = entry.data_offsets;
      if (BigInt(end) - BigInt(begin) !== size || end > data.length) return undefined;
      for (let i = begin; i < end; i++) {
        if (owner[i] !== undefined) return undefined;
        owner[i] = name;
      }
      tensors.set(name, { dtype: entry.dtype, shape: entry.shape, bytes: data.slice(begin, end) });
    }
    for (const name of tensors.keys()) {
      const [begin] = parsed[name]!.data_offsets;
      if (begin > 0 && begin < data.length && owner[begin - 1] === owner[begin] && owner[begin] !== name) return undefined; // empty, inside another
    }
  } catch {
    return undefined;
  }
  return owner.includes(undefined) ? undefined : tensors;
}

/** One float, by the definition of its format. */
function floatAt(dtype: string, bytes: Uint8Array, i: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (dtype === "F64") return Math.fround(view.getFloat64(8 * i, true));
  if (dtype === "F32") return view.getFloat32(4 * i, true);
  const bits = view.getUint16(2 * i, true);
  const [exponentBits, fractionBits] = dtype === "F16" ? [5, 10] : [8, 7];
  const bias = 2 ** (exponentBits - 1) - 1;
  const exponent = (bits >> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  const sign = bits >> 15 ? -1 : 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
}

/** A file from header text and data, the length field right. */
function join(header: string, data: Uint8Array): Uint8Array {
  const text = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

function seeds(random: Random): Uint8Array[] {
  const raw = (dtype: "F32" | "F16" | "BF16" | "F64" | "I64" | "U8" | "BOOL", width: number, ...shape: number[]) => {
    const bytes = Uint8Array.from({ length: width * shape.reduce((a, b) => a * b, 1) }, () => random(256));
    return { dtype, shape, bytes };
  };
  return [
    writeSafetensors([
      ["a.weight", raw("F32", 4, 2, 3)],
      ["a.bias", raw("BF16", 2, 3)],
      ["half", raw("F16", 2, 2, 2, 2)],
    ]),
    writeSafetensors(
      [
        ["", raw("U8", 1, 5)],
        ["empty", raw("F32", 4, 0, 7)],
        ["scalar", raw("F64", 8)],
        ["ids", raw("I64", 8, 2)],
        ["7", raw("BOOL", 1, 3)],
      ],
      {},
    ),
    writeSafetensors([], { format: "pt", ключ: 'a "quoted" \\ line\n' }),
    // Not aligned, names with escapes, fields in another order, a field that readers ignore, spaces, an empty tensor between two others.
    join(
      '{"b\\u0041\\"":{"shape":[3],"data_offsets":[0,3],"dtype":"I8"},"e":{"dtype":"I16","shape":[0],"data_offsets":[3,3]},\n "h":{"dtype":"F16","shape":[1,2],"data_offsets":[3,7],"note":[true,null,{"x":1}]}}  ',
      Uint8Array.from({ length: 7 }, () => random(256)),
    ),
  ];
}

/** Parts of the reader's messages: each must turn up. */
const RULES = [
  "has at least 8",
  "are allowed",
  "truncated: the header needs",
  'does not start with "{"',
  "not UTF-8",
  "not valid JSON",
  "appears twice in one object",
  "without sign or exponent",
  "__metadata__ is not an object",
  "is not a string",
  "half of a surrogate pair",
  "its entry is not an object",
  "dtype is not a string",
  "is not supported",
  "is unknown",
  "shape is not a list",
  "data_offsets is not two",
  "begin after their end",
  "has more than 2^53 bytes",
  "data_offsets [",
  "truncated: data up to byte",
  "inside the tensor before it",
  "but the tensor before it ends at",
  "belong to no tensor",
];
const NUMBERS = [
  "0",
  "1",
  "2",
  "3",
  "7",
  "8",
  "16",
  "-1",
  "-0",
  "1.0",
  "1e1",
  "01",
  "255",
  "4294967296",
  "9007199254740991",
  "9007199254740993",
  "1e400",
  "18446744073709551616",
];
const WORDS = [
  "F32",
  "F16",
  "BF16",
  "I32",
  "U8",
  "F8_E4M3",
  "U64",
  "__metadata__",
  "__proto__",
  "toString",
  "a.weight",
  "dtype",
  "shape",
  "data_offsets",
  "\\ud800",
];
const pick = <T>(random: Random, list: readonly T[]): T => list[random(list.length)]!;

/** The file as `file`, read as views that are not aligned to anything. */
function unalignedFiles(file: Uint8Array): Files {
  const inner = memoryFiles("fuzz", { file });
  return {
    ...inner,
    async read(name, start, end) {
      return Uint8Array.from([0, ...(await inner.read(name, start, end))]).subarray(1);
    },
  };
}

/** One change of a file. Those of the header keep the length field right, so that the rules behind it are reached. */
function mutate(file: Uint8Array, random: Random): Uint8Array {
  const kind = random(12);
  const at = random(file.length + 1);
  const cut = (start: number, end: number, ...insert: number[]) =>
    Uint8Array.from([...file.slice(0, start), ...insert, ...file.slice(end)]);
  if (kind === 0) return cut(at, at + 1, (file[at] ?? 0) ^ (1 << random(8)));
  if (kind === 1) return cut(at, at, ...Array.from({ length: 1 + random(4) }, () => random(256)));
  if (kind === 2) return cut(at, at + 1 + random(4));
  if (kind === 3) return file.slice(0, at);
  if (kind === 4) {
    const place = random(8); // the length field
    return cut(place, place + 1, random(256));
  }
  const length = file.length < 8 ? -1 : Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  if (length < 0 || length + 8 > file.length) return file;
  const header = Buffer.from(file.subarray(8, 8 + length)).toString("utf8");
  const data = file.slice(8 + length);
  if (kind === 5) return join(header, random(2) ? data.slice(0, random(data.length + 1)) : Uint8Array.from([...data, random(256)]));
  const replaceOne = (pattern: RegExp, by: (found: string) => string): string => {
    const chosen = random(Math.max(1, header.match(pattern)?.length ?? 1));
    let seen = 0;
    return header.replace(pattern, (found) => (seen++ === chosen ? by(found) : found));
  };
  if (kind === 6)
    return join(
      replaceOne(/\d+/g, () => pick(random, NUMBERS)),
      data,
    );
  if (kind === 7)
    return join(
      replaceOne(/\d+/g, (n) => String(Math.max(0, Number(n) + random(9) - 4))),
      data,
    );
  if (kind === 8)
    return join(
      replaceOne(/"(?:[^"\\]|\\.)*"/g, () => `"${pick(random, WORDS)}"`),
      data,
    );
  if (kind === 9) {
    // An entry moved, doubled or lost.
    const entries = header.match(/"[^"]*":\{[^{}]*\}/g) ?? [];
    const list = entries.map((entry) => (random(6) === 0 ? pick(random, entries) : entry)).filter(() => random(8) > 0);
    if (random(2)) list.reverse();
    if (list.length > 0 && random(4) === 0) list.push(pick(random, list));
    return join(`{${list}}`, data);
  }
  if (kind === 10) {
    return join(
      replaceOne(/\{[^{}]*\}/g, () => pick(random, ["null", "[]", "1", "{}", '"x"', "true"])),
      data,
    );
  }
  // Two numbers change places: shapes and offsets that are right somewhere else.
  const numbers = header.match(/\d+/g) ?? [];
  const [i, j] = [random(numbers.length + 1), random(numbers.length + 1)];
  let seen = 0;
  return join(
    header.replace(/\d+/g, (n) => {
      const k = seen++;
      return (k === i ? numbers[j] : k === j ? numbers[i] : n) ?? n;
    }),
    data,
  );
}

test(`${CASES} damaged files are refused with a WeightError, or read exactly`, async () => {
  const random = seeded(20240611);
  const originals = seeds(random);
  for (const file of originals) expect(oracle(file), "the seeds are valid").toBeDefined();
  let accepted = 0;
  const reached = new Set<string>();
  for (let i = 0; i < CASES; i++) {
    let file = pick(random, originals);
    for (let changes = 1 + random(3); changes > 0; changes--) file = mutate(file, random);
    const expected = oracle(file);
    const context = () => `case ${i}: ${JSON.stringify(Buffer.from(file).toString("latin1"))}`;
    let opened: Awaited<ReturnType<typeof openSafetensors>>;
    try {
      opened = await openSafetensors(unalignedFiles(file), "file");
    } catch (error) {
      // A FileError would mean that the reader asked for bytes outside the file, a RangeError that it allocated by a number it had not checked.
      if (!(error instanceof WeightError)) throw new Error(context(), { cause: error });
      if (expected !== undefined) throw new Error(`refused, but it is valid: ${context()}`, { cause: error });
      expect(error.message).toMatch(/^fuzz\/file: /);
      for (const rule of RULES) if (error.message.includes(rule)) reached.add(rule);
      continue;
    }
    if (expected === undefined) throw new Error(`accepted, but it is not valid: ${context()}`);
    accepted++;
    expect([...opened.tensors.keys()].sort(), context()).toEqual([...expected.keys()].sort());
    for (const [name, { dtype, shape, bytes }] of expected) {
      const stored = opened.tensors.get(name)!;
      if (stored.dtype !== dtype || `${stored.shape}` !== `${shape}`) throw new Error(`tensor ${name}: ${context()}`);
      if (Buffer.compare(await opened.readBytes(name), bytes) !== 0) throw new Error(`bytes of ${name}: ${context()}`);
      if (!/F/.test(dtype)) continue;
      const { data } = await opened.readFloat32(name);
      for (let k = 0; k < data.length; k++) {
        if (!Object.is(data[k], floatAt(dtype, bytes, k))) throw new Error(`${name}[${k}] is ${data[k]}: ${context()}`);
      }
    }
  }
  // The mutations must reach both outcomes and all rules, or the test says little.
  expect(accepted).toBeGreaterThan(500);
  expect(CASES - accepted).toBeGreaterThan(5000);
  expect(RULES.filter((rule) => !reached.has(rule))).toEqual([]);
}, 20_000);
