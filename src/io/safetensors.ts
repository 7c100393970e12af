import { floatBitsOfHalf } from "../core/half.js";
import { f32, sizeOf, type Tensor } from "../core/tensor.js";
import { FileError, WeightError } from "../errors.js";
import type { Files } from "./files.js";
import { findJsonFault, isRecord, quote } from "./json.js";
import { missingTensor, type StoredDType, type StoredTensor, type TensorSource } from "./tensor-source.js";

/** One open safetensors file (https://github.com/huggingface/safetensors, "Format"). Nothing but the header is held in memory. */
export interface SafetensorsFile extends TensorSource {
  /** The header's `__metadata__`; empty when there is none. */
  readonly metadata: Readonly<Record<string, string>>;
  /** One tensor's bytes as stored: little-endian, row-major. Throws WeightError for a missing name. */
  readBytes(name: string): Promise<Uint8Array<ArrayBuffer>>;
}

/** A tensor of any stored dtype, given as its little-endian bytes. */
export interface RawTensor extends StoredTensor {
  readonly bytes: Uint8Array;
}

/** A tensor's place: `begin` and `end` in bytes from the start of the data section. */
interface Entry extends StoredTensor {
  readonly begin: number;
  readonly end: number;
}

/** Bytes per element. The order is the reference writer's: it sorts by dtype, largest alignment first, so that all views are aligned. */
export const DTYPE_BYTES: Readonly<Record<StoredDType, number>> = {
  I64: 8,
  F64: 8,
  F32: 4,
  I32: 4,
  BF16: 2,
  F16: 2,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};
/** In the format, but nothing here can use them. */
const UNSUPPORTED_DTYPES: readonly string[] = "U64 U32 U16 C64 F8_E4M3 F8_E5M2 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ F6_E2M3 F6_E3M2 F4".split(
  " ",
);
/** The reference implementation's limit, in bytes. */
const MAX_HEADER = 100_000_000;
const MAX_LISTED_PROBLEMS = 20;
const DAMAGED = "The file may be damaged or only partly downloaded: download it again.";

/**
 * Opens a safetensors file by reading its header only; all rules that the reference implementation (Rust, `SafeTensors::read_metadata`) checks are
 * checked. Throws FileError when the file is missing, WeightError that lists all faults of the header otherwise.
 */
export async function openSafetensors(files: Files, name: string): Promise<SafetensorsFile> {
  const where = `${files.origin}/${name}`;
  const fileSize = await files.size(name);
  if (fileSize === undefined) throw new FileError(`${where}: no such file`);
  const header = await readHeaderText(files, name, where, fileSize);
  const { entries, metadata } = parseHeader(header.text, where, header.dataStart, fileSize);

  const entryOf = (tensor: string): Entry => {
    const entry = entries.get(tensor);
    if (entry) return entry;
    throw missingTensor(where, tensor, entries);
  };
  const readBytes = async (tensor: string): Promise<Uint8Array<ArrayBuffer>> => {
    const { begin, end } = entryOf(tensor);
    if (begin === end) return new Uint8Array();
    return readExactly(files, name, header.dataStart + begin, header.dataStart + end);
  };
  return {
    tensors: entries,
    metadata,
    readBytes,
    async readFloat32(tensor) {
      const { dtype, shape } = entryOf(tensor);
      if (!isFloat(dtype))
        throw new WeightError(`${where}: tensor ${quote(tensor)} holds integers (${dtype}), expected F64, F32, F16 or BF16`);
      return f32(toFloat32(dtype, await readBytes(tensor)), shape);
    },
  };
}

async function readExactly(files: Files, name: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await files.read(name, start, end);
  if (bytes.byteLength === end - start) return bytes;
  throw new WeightError(`${files.origin}/${name}: asked for bytes ${start} to ${end}, got ${bytes.byteLength} bytes`, { hint: DAMAGED });
}

async function readHeaderText(files: Files, name: string, where: string, fileSize: number): Promise<{ text: string; dataStart: number }> {
  if (fileSize < 8) throw new WeightError(`${where}: ${fileSize} bytes, a safetensors file has at least 8`, { hint: DAMAGED });
  const prefix = await readExactly(files, name, 0, 8);
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > MAX_HEADER) {
    throw new WeightError(`${where}: a header of ${length} bytes, at most ${MAX_HEADER} are allowed`, {
      hint: "Is it a safetensors file at all?",
    });
  }
  const dataStart = 8 + Number(length);
  if (dataStart > fileSize) {
    throw new WeightError(`${where}: truncated: the header needs ${dataStart} bytes, the file has ${fileSize}`, { hint: DAMAGED });
  }
  const bytes = await readExactly(files, name, 8, dataStart);
  if (bytes[0] !== 0x7b)
    throw new WeightError(`${where}: the header does not start with "{"`, { hint: "Is it a safetensors file at all?" });
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes), dataStart };
  } catch (cause) {
    throw new WeightError(`${where}: the header is not UTF-8 text`, { hint: DAMAGED, cause });
  }
}

function parseHeader(text: string, where: string, dataStart: number, fileSize: number) {
  const fault = findJsonFault(text, { uniqueKeys: true, plainIntegers: true });
  if (fault)
    throw new WeightError(`${where}: the header is not valid JSON at character ${fault.offset}: ${fault.problem}`, { hint: DAMAGED });
  const header: Readonly<Record<string, unknown>> = JSON.parse(text); // an object: it starts with "{"
  const { __metadata__ = {}, ...tensors } = header;
  const problems: string[] = [];
  const metadata = readMetadata(__metadata__, problems);
  const found = Object.entries(tensors).flatMap(([tensor, value]) => {
    const entry = readEntry(tensor, value, problems);
    return entry ? [[tensor, entry] as const] : [];
  });
  found.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  checkSpans(found, dataStart, fileSize, problems);
  throwProblems(where, problems, DAMAGED);
  return { entries: new Map<string, Entry>(found), metadata };
}

function readMetadata(value: unknown, problems: string[]): Readonly<Record<string, string>> {
  if (!isRecord(value)) problems.push("__metadata__ is not an object");
  const pairs: [string, string][] = [];
  for (const [key, text] of Object.entries(isRecord(value) ? value : {})) {
    if (typeof text === "string" && isUnicode(key + text)) pairs.push([key, text]);
    else problems.push(`__metadata__ entry ${quote(key)} is not a string`);
  }
  return Object.fromEntries(pairs);
}

function readEntry(name: string, value: unknown, problems: string[]): Entry | undefined {
  const wrong = (problem: string): undefined => void problems.push(`tensor ${quote(name)}: ${problem}`);
  if (!isUnicode(name)) return wrong("its name has half of a surrogate pair");
  if (!isRecord(value)) return wrong("its entry is not an object");
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isStoredDType(dtype)) {
    if (typeof dtype !== "string") return wrong("dtype is not a string");
    const known = UNSUPPORTED_DTYPES.includes(dtype) ? "is not supported" : "is unknown";
    return wrong(`dtype ${quote(dtype)} ${known}, expected one of ${Object.keys(DTYPE_BYTES).join(", ")}`);
  }
  if (!isCounts(shape)) return wrong("shape is not a list of whole numbers below 2^53");
  if (!isCounts(offsets) || offsets.length !== 2) return wrong("data_offsets is not two whole numbers below 2^53");
  const [begin, end] = [offsets[0]!, offsets[1]!];
  if (begin > end) return wrong(`data_offsets begin after their end, [${begin}, ${end}]`);
  let size = DTYPE_BYTES[dtype];
  for (const dim of shape) {
    size *= dim;
    // Checked at each factor as the reference does: a later 0 does not excuse an overflow.
    if (!Number.isSafeInteger(size)) return wrong(`shape [${shape.slice(0, 8)}${shape.length > 8 ? ", …" : ""}] has more than 2^53 bytes`);
  }
  if (size !== end - begin)
    return wrong(`${dtype} [${shape.slice(0, 8)}] needs ${size} bytes, data_offsets [${begin}, ${end}] hold ${end - begin}`);
  return { dtype, shape, begin, end };
}

/** Tensors, sorted by place, must cover the data section without overlap, hole or rest. */
function checkSpans(found: readonly (readonly [string, Entry])[], dataStart: number, fileSize: number, problems: string[]): void {
  const dataSize = fileSize - dataStart;
  const sizes = `the file has ${fileSize} bytes, ${dataSize} of them tensor data`;
  const cut = found.filter(([, { end }]) => end > dataSize);
  if (cut.length > 0) {
    const others = cut.length > 1 ? ` (and ${cut.length - 1} more)` : "";
    problems.push(`tensor ${quote(cut[0]![0])}${others}: truncated: data up to byte ${cut.at(-1)![1].end} is promised, but ${sizes}`);
  }
  if (problems.length > 0) return; // a missing entry would be reported as a hole
  let covered = 0;
  for (const [name, { begin, end }] of found) {
    if (begin < covered)
      problems.push(`tensor ${quote(name)}: begins at byte ${begin}, inside the tensor before it, which ends at ${covered}`);
    if (begin > covered) problems.push(`tensor ${quote(name)}: begins at byte ${begin}, but the tensor before it ends at ${covered}`);
    covered = Math.max(covered, end);
  }
  if (covered < dataSize) problems.push(`${dataSize - covered} bytes at the end belong to no tensor: ${sizes}`);
}

/** Throws one WeightError that lists all `problems` of what `where` names (the first 20 of them); does nothing when there are none. */
export function throwProblems(where: string, problems: readonly string[], hint?: string): void {
  if (problems.length === 0) return;
  const listed = problems.slice(0, MAX_LISTED_PROBLEMS);
  if (listed.length < problems.length) listed.push(`… and ${problems.length - listed.length} more`);
  throw new WeightError(`${where}: ${listed.length === 1 ? listed[0] : `${problems.length} faults:\n  ${listed.join("\n  ")}`}`, { hint });
}

function isCounts(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function isStoredDType(value: unknown): value is StoredDType {
  return typeof value === "string" && Object.hasOwn(DTYPE_BYTES, value);
}

function isUnicode(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

/** The stored dtypes that are floating point. */
export type StoredFloat = "F64" | "F32" | "F16" | "BF16";

/** Whether a stored dtype is floating point. */
export function isFloat(dtype: StoredDType): dtype is StoredFloat {
  return dtype === "F64" || dtype === "F32" || dtype === "F16" || dtype === "BF16";
}

/**
 * Little-endian floats as float32: F64 is rounded, the others are exact (NaN payloads too). F32 bytes that are aligned are viewed, not copied.
 * Takes the host to be little-endian, as every platform with WebAssembly or ONNX Runtime is.
 */
export function toFloat32(dtype: StoredFloat, bytes: Uint8Array<ArrayBuffer>): Float32Array {
  const width = DTYPE_BYTES[dtype];
  const { buffer, byteOffset } = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  const count = bytes.byteLength / width;
  if (dtype === "F32") return new Float32Array(buffer, byteOffset, count);
  if (dtype === "F64") return new Float32Array(new Float64Array(buffer, byteOffset, count));
  const source = new Uint16Array(buffer, byteOffset, count);
  const bits = new Uint32Array(count);
  if (dtype === "BF16") {
    for (let i = 0; i < count; i++) bits[i] = source[i]! << 16;
  } else {
    const table = halfTable();
    for (let i = 0; i < count; i++) bits[i] = table[source[i]!]!;
  }
  return new Float32Array(bits.buffer);
}

/** The float32 bits of each of the 65536 halves; made at the first F16 tensor and kept, which no caller can observe. */
const halfTable = (() => {
  let table: Uint32Array | undefined;
  return (): Uint32Array => {
    table ??= Uint32Array.from({ length: 65536 }, (_, half) => floatBitsOfHalf(half));
    return table;
  };
})();

/**
 * A safetensors file of `tensors`, which may come in any order: laid out by dtype, then by name, and padded as the reference writer does, so that equal
 * tensors give equal bytes. Throws WeightError for names given twice and for bytes that do not fit the shape.
 */
export function writeSafetensors(
  tensors: Iterable<readonly [string, Tensor<"float32"> | RawTensor]>,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Uint8Array<ArrayBuffer> {
  const problems: string[] = [];
  const byName = new Map<string, RawTensor>();
  for (const [name, tensor] of tensors) {
    const raw = "bytes" in tensor ? tensor : rawFloat32(tensor);
    const wrong = (problem: string): void => void problems.push(`tensor ${quote(name)}: ${problem}`);
    if (byName.has(name)) wrong("given twice");
    if (name === "__metadata__" || !isUnicode(name)) wrong("cannot be a tensor's name");
    const expected = storedBytes(raw);
    if (!isCounts(raw.shape) || raw.bytes.byteLength !== expected) {
      wrong(`${raw.dtype} [${raw.shape}] needs ${expected} bytes, got ${raw.bytes.byteLength}`);
    }
    byName.set(name, raw);
  }
  throwProblems("cannot write safetensors", problems);

  const { header, names, size } = layout(byName, metadata);
  const file = new Uint8Array(size);
  file.set(header);
  let at = header.byteLength;
  for (const name of names) {
    const { bytes } = byName.get(name)!;
    file.set(bytes, at);
    at += bytes.byteLength;
  }
  return file;
}

/**
 * The same file in pieces, for weights that do not fit into memory together: `read` gives a tensor's little-endian bytes when its turn comes.
 * Throws WeightError for bytes that do not fit the shape.
 */
export async function* streamSafetensors(
  tensors: ReadonlyMap<string, StoredTensor>,
  read: (name: string) => Promise<Uint8Array>,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): AsyncGenerator<Uint8Array, void> {
  const { header, names } = layout(tensors, metadata);
  yield header;
  for (const name of names) {
    const bytes = await read(name);
    const { dtype, shape } = tensors.get(name)!;
    const expected = storedBytes(tensors.get(name)!);
    if (bytes.byteLength !== expected) {
      throwProblems("cannot write safetensors", [
        `tensor ${quote(name)}: ${dtype} [${shape}] needs ${expected} bytes, got ${bytes.byteLength}`,
      ]);
    }
    yield bytes;
  }
}

/** Bytes that a stored tensor takes. */
export function storedBytes({ dtype, shape }: StoredTensor): number {
  return DTYPE_BYTES[dtype] * sizeOf(shape);
}

/** A file's header, its tensors in their order, and its size in bytes. */
function layout(tensors: ReadonlyMap<string, StoredTensor>, metadata: Readonly<Record<string, string>>) {
  const order = Object.keys(DTYPE_BYTES);
  const sorted = [...tensors].sort(([a, x], [b, y]) => order.indexOf(x.dtype) - order.indexOf(y.dtype) || (a < b ? -1 : 1));
  const fields: string[] = []; // joined by hand: an object would move number-like names to its front
  const pairs = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  if (pairs.length > 0) fields.push(`"__metadata__":{${pairs.map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`)}}`);
  let dataSize = 0;
  for (const [name, tensor] of sorted) {
    const { dtype, shape } = tensor;
    const end = dataSize + storedBytes(tensor);
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [dataSize, end] })}`);
    dataSize = end;
  }
  const text = new TextEncoder().encode(`{${fields}}`);
  const headerSize = Math.ceil(text.byteLength / 8) * 8;
  if (headerSize > MAX_HEADER)
    throwProblems("cannot write safetensors", [`a header of ${headerSize} bytes, at most ${MAX_HEADER} are allowed`]);
  const header = new Uint8Array(8 + headerSize).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(headerSize), true);
  header.set(text, 8);
  return { header, names: sorted.map(([name]) => name), size: header.byteLength + dataSize };
}

function rawFloat32({ shape, data }: Tensor<"float32">): RawTensor {
  return { dtype: "F32", shape, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}
