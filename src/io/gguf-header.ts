import { FileError, WeightError } from "../errors.js";
import type { Files } from "./files.js";
import { type GgufType, ggufTypeName, ggufTypes } from "./gguf-types.js";
import { quote } from "./json.js";
import { throwProblems } from "./safetensors.js";

/** A value of a GGUF file's metadata; 64-bit numbers beyond 2^53 stay bigint. */
export type GgufValue = number | bigint | boolean | string | readonly GgufValue[];

/** A tensor's place in the file. */
export interface GgufEntry {
  readonly type: GgufType;
  /** Row-major as everywhere here: GGUF states the sizes the other way round. */
  readonly shape: readonly number[];
  /** Bytes [begin, end) of the file. */
  readonly begin: number;
  readonly end: number;
}

/** What a GGUF file says before its tensors' bytes. */
export interface GgufHeader {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufEntry>;
}

const DAMAGED = "The file may be damaged or only partly downloaded: download it again.";
/** Bytes read at first; doubled until the header is complete. A tokenizer of 50,000 tokens takes 2 MB. */
const FIRST_READ = 2 ** 22;
const MAX_HEADER = 2 ** 27;
const MAX_DIMENSIONS = 4;

/** What a value of each type takes at least, in bytes: the file must be able to hold as many as an array claims. */
const least = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];
const ARRAY = 9;

/** The part of the header that was read does not reach this far. */
class Incomplete extends Error {}

/**
 * Reads the header of a GGUF file, version 2 or 3, little-endian (ggml's docs/gguf.md). Nothing is allocated by a number that the file's size
 * does not bear out. Throws FileError when the file is missing, WeightError that lists all faults otherwise.
 */
export async function readGgufHeader(files: Files, name: string): Promise<GgufHeader> {
  const where = `${files.origin}/${name}`;
  const size = await files.size(name);
  if (size === undefined) throw new FileError(`${where}: no such file`);
  for (let read = Math.min(size, FIRST_READ); ; read = Math.min(size, 2 * read)) {
    try {
      return parse(await files.read(name, 0, read), size, where);
    } catch (error) {
      if (!(error instanceof Incomplete)) throw error;
      if (read === size) throw new WeightError(`${where}: truncated: the file ends at byte ${size}, inside its header`, { hint: DAMAGED });
      if (read >= MAX_HEADER) throw new WeightError(`${where}: a header of more than ${MAX_HEADER} bytes`, { hint: DAMAGED });
    }
  }
}

function parse(bytes: Uint8Array<ArrayBuffer>, fileSize: number, where: string): GgufHeader {
  const from = cursor(bytes, fileSize, where);
  if (fileSize < 4 || from.text(4) !== "GGUF")
    throw new WeightError(`${where}: does not start with "GGUF"`, { hint: "Is it a GGUF file at all?" });
  const version = from.u32();
  if (version !== 2 && version !== 3) {
    const swapped = [0x02000000, 0x03000000].includes(version);
    throw new WeightError(`${where}: GGUF version ${swapped ? `${version >>> 24}, big-endian` : version}, expected 2 or 3, little-endian`, {
      hint: "convert the model anew with llama.cpp",
    });
  }
  const tensorCount = from.count("tensors", 8 + 4 + 8 + 4 + 8);
  const pairCount = from.count("metadata entries", 8 + 4 + 1);
  const problems: string[] = [];
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < pairCount; i++) {
    const key = from.string("a metadata key");
    if (metadata.has(key)) problems.push(`metadata ${quote(key)} is given twice`);
    metadata.set(key, from.value(from.u32(), key, 0));
  }
  const claims: [string, Claim][] = [];
  const seen = new Set<string>();
  for (let i = 0; i < tensorCount; i++) {
    const name = from.string("a tensor's name");
    if (seen.has(name)) problems.push(`tensor ${quote(name)} is given twice`);
    seen.add(name);
    const dimensions = from.u32();
    // Beyond it all that follows would be read out of place.
    if (dimensions > MAX_DIMENSIONS) {
      problems.push(`tensor ${quote(name)} has ${dimensions} dimensions, at most ${MAX_DIMENSIONS} are allowed`);
      throwProblems(where, problems, DAMAGED);
    }
    const sizes = Array.from({ length: dimensions }, () => from.u64());
    claims.push([name, { shape: sizes.reverse(), type: from.u32(), offset: from.u64() }]);
  }
  const alignment = metadata.get("general.alignment") ?? 32;
  if (typeof alignment !== "number" || alignment < 8 || alignment % 8 !== 0) {
    problems.push(`general.alignment is ${String(alignment)}, expected a multiple of 8`);
    throwProblems(where, problems, DAMAGED);
  }
  const dataStart = Math.ceil(from.at() / Number(alignment)) * Number(alignment);
  const tensors = placed(claims, { dataStart, alignment: Number(alignment), fileSize }, problems);
  throwProblems(where, problems, problems.some((problem) => problem.includes("quantisation")) ? CONVERT : DAMAGED);
  return { metadata, tensors };
}

const CONVERT =
  "Convert the file with llama.cpp to one of the types that are read: llama-quantize --allow-requantize in.gguf out.gguf Q8_0";

/** A tensor as the header has it; sizes and offset may be anything. */
interface Claim {
  readonly shape: readonly bigint[];
  readonly type: number;
  /** From the start of the data. */
  readonly offset: bigint;
}

interface Space {
  readonly dataStart: number;
  readonly alignment: number;
  readonly fileSize: number;
}

/** Tensors whose bytes are all in the file, none in another's. */
function placed(claims: readonly (readonly [string, Claim])[], space: Space, problems: string[]): ReadonlyMap<string, GgufEntry> {
  const { dataStart, alignment, fileSize } = space;
  const found: [string, GgufEntry][] = [];
  const beyond: string[] = []; // of a file that was cut off hundreds: the first says it all
  for (const [name, { shape, type: number, offset }] of claims) {
    const wrong = (problem: string): void => void problems.push(`tensor ${quote(name)}: ${problem}`);
    const type = ggufTypes.get(number);
    if (type === undefined) {
      wrong(
        `quantisation ${ggufTypeName(number)} is not read, expected one of ${[...ggufTypes.values()].map((each) => each.name).join(", ")}`,
      );
      continue;
    }
    const numbers = shape.reduce((product, dim) => product * dim, 1n);
    const row = shape.at(-1) ?? 1n;
    if (row % BigInt(type.block) !== 0n) {
      wrong(`rows of ${row} numbers, ${type.name} packs ${type.block} at a time`);
      continue;
    }
    const begin = BigInt(dataStart) + offset;
    const end = begin + (numbers / BigInt(type.block)) * BigInt(type.bytes);
    if (offset % BigInt(alignment) !== 0n) wrong(`begins at byte ${offset} of the data, not at a multiple of ${alignment}`);
    if (end > BigInt(fileSize))
      beyond.push(`tensor ${quote(name)}: ${type.name} [${shape}] ends at byte ${end}, the file has ${fileSize}: truncated?`);
    else found.push([name, { type, shape: shape.map(Number), begin: Number(begin), end: Number(end) }]);
  }
  problems.push(...beyond.slice(0, 1), ...(beyond.length > 1 ? [`… and ${beyond.length - 1} more end beyond the file`] : []));
  const sorted = [...found].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  sorted.forEach(([name, { begin }], i) => {
    const [before, { end }] = sorted[i - 1] ?? ["", { end: 0 }];
    if (begin < end) problems.push(`tensor ${quote(name)}: begins at byte ${begin}, inside ${quote(before)}, which ends at ${end}`);
  });
  return new Map(found);
}

/** Reads one value after the other. Throws Incomplete where the bytes end before the file does, WeightError where the file cannot hold it. */
function cursor(bytes: Uint8Array<ArrayBuffer>, fileSize: number, where: string) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let at = 0;
  const take = (length: number): number => {
    if (at + length > bytes.byteLength) throw new Incomplete();
    at += length;
    return at - length;
  };
  const damaged = (problem: string): never => {
    throw new WeightError(`${where}: ${problem}`, { hint: DAMAGED });
  };
  /** A number of things of `width` bytes each at least, which must fit into the rest of the file. */
  const count = (what: string, width: number): number => {
    const n = view.getBigUint64(take(8), true);
    if (n * BigInt(width) > BigInt(fileSize - at)) damaged(`${n} ${what} from byte ${at} on do not fit into a file of ${fileSize} bytes`);
    return Number(n);
  };
  const text = (length: number, what = ""): string => {
    const start = take(length);
    try {
      return utf8.decode(bytes.subarray(start, start + length));
    } catch {
      return damaged(`${what} at byte ${start} is not UTF-8 text`);
    }
  };
  const string = (what: string): string => text(count("bytes of text", 1), what);
  const whole = (n: bigint): number | bigint => (n >= Number.MIN_SAFE_INTEGER && n <= Number.MAX_SAFE_INTEGER ? Number(n) : n);
  const readers: readonly (() => GgufValue)[] = [
    () => view.getUint8(take(1)),
    () => view.getInt8(take(1)),
    () => view.getUint16(take(2), true),
    () => view.getInt16(take(2), true),
    () => view.getUint32(take(4), true),
    () => view.getInt32(take(4), true),
    () => view.getFloat32(take(4), true),
    () => view.getUint8(take(1)) !== 0,
    () => string("metadata"),
    () => damaged("an array where none can be"), // values of this type are read below
    () => whole(view.getBigUint64(take(8), true)),
    () => whole(view.getBigInt64(take(8), true)),
    () => view.getFloat64(take(8), true),
  ];
  const value = (type: number, key: string, depth: number): GgufValue => {
    if (type >= readers.length) return damaged(`metadata ${quote(key)} is of type ${type}, expected 0 to ${readers.length - 1}`);
    if (type !== ARRAY) return readers[type]!();
    if (depth >= 4) return damaged(`metadata ${quote(key)}: arrays in arrays, more than 4 deep`);
    const element = view.getUint32(take(4), true);
    const n = count(`elements of metadata ${quote(key)}`, least[element] ?? 1);
    if (at + n * (least[element] ?? 1) > bytes.byteLength) throw new Incomplete();
    const values: GgufValue[] = [];
    for (let i = 0; i < n; i++) values.push(value(element, key, depth + 1));
    return values;
  };
  return {
    at: () => at,
    u32: () => view.getUint32(take(4), true),
    u64: () => view.getBigUint64(take(8), true),
    count,
    text,
    string,
    value,
  };
}
