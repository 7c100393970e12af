import { expect, test } from "vitest";
import { f32 } from "../core/tensor.js";
import { FileError, WeightError } from "../errors.js";
import type { Files } from "./files.js";
import { memoryFiles } from "./memory-files.js";
import { openSafetensors, type RawTensor, streamSafetensors, toFloat32, writeSafetensors } from "./safetensors.js";
import type { StoredDType } from "./tensor-source.js";

/** A file of this header text (the length field is right unless given) and this many data bytes: 0, 1, 2 … */
function fileOf(header: string | object, dataSize = 0, length?: bigint): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + dataSize);
  new DataView(file.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  file.set(text, 8);
  for (let i = 0; i < dataSize; i++) file[8 + text.length + i] = i;
  return file;
}
const openBytes = (bytes: Uint8Array) => openSafetensors(memoryFiles("folder", { "x.safetensors": bytes }), "x.safetensors");
const u8 = (begin: number, end: number) => ({ dtype: "U8", shape: [end - begin], data_offsets: [begin, end] });
const raw = (dtype: StoredDType, shape: number[], array: ArrayBufferView): RawTensor => ({
  dtype,
  shape,
  bytes: new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength),
});

async function refusal(bytes: Uint8Array): Promise<string> {
  const error = await openBytes(bytes).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof WeightError)) throw new Error("expected a WeightError", { cause: error });
  expect(error.message).toMatch(/^folder\/x\.safetensors: /);
  expect(error.hint).toBeTruthy();
  return error.message;
}

test("reads what the format's description spells out byte by byte", async () => {
  const header =
    '{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[1,2],"data_offsets":[2,10]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}';
  const file = fileOf(`${header}   `, 10);
  new DataView(file.buffer).setFloat32(file.length - 8, 1.5, true); // 139 header bytes: not aligned to 4
  new DataView(file.buffer).setFloat32(file.length - 4, -2, true);
  const opened = await openBytes(file);
  expect(opened.metadata).toEqual({ format: "pt" });
  expect([...opened.tensors.keys()]).toEqual(["b", "w"]); // in file order
  expect(opened.tensors.get("w")).toMatchObject({ dtype: "F32", shape: [1, 2] });
  expect(await opened.readFloat32("w")).toEqual(f32([1.5, -2], [1, 2]));
  expect(await opened.readBytes("b")).toEqual(new Uint8Array([0, 1]));
});

test("reads the header only, then one range for a tensor", async () => {
  const bytes = writeSafetensors([
    ["a", f32(new Float32Array(1000))],
    ["b", f32([1, 2])],
  ]);
  const inner = memoryFiles("folder", { f: bytes });
  const ranges: [number, number][] = [];
  const files: Files = {
    ...inner,
    read(name, start = 0, end = bytes.length) {
      ranges.push([start, end]);
      return inner.read(name, start, end);
    },
  };
  const opened = await openSafetensors(files, "f");
  const dataStart = bytes.length - 4008;
  await opened.readFloat32("b");
  expect(ranges).toEqual([
    [0, 8],
    [8, dataStart],
    [dataStart + 4000, dataStart + 4008],
  ]);
});

test("F16 and BF16 become float32 exactly, for all 65536 bit patterns", async () => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const bytes = writeSafetensors([
    ["half", raw("F16", [256, 256], all)],
    ["brain", raw("BF16", [65536], all)],
    ["one", raw("F64", [3], new Float64Array([0.1, -1e300, 5e-324]))],
  ]);
  const opened = await openBytes(bytes);
  const half = (await opened.readFloat32("half")).data;
  const brain = new Uint32Array((await opened.readFloat32("brain")).data.buffer);
  for (let bits = 0; bits < 65536; bits++) {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    const finite = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
    const value = exponent === 31 ? (fraction ? NaN : Infinity) : finite;
    if (!Object.is(half[bits], sign * value)) expect.fail(`half ${bits}: ${half[bits]}, expected ${sign * value}`);
    if (brain[bits] !== bits * 65536) expect.fail(`bf16 ${bits}: ${brain[bits]}`);
  }
  // A few by hand: smallest subnormal, largest subnormal, smallest normal, 1/3, largest, infinities, a NaN that keeps its payload.
  expect([0x0001, 0x03ff, 0x0400, 0x3555, 0x7bff, 0x7c00, 0xfc00].map((i) => half[i])).toEqual([
    2 ** -24,
    2 ** -14 - 2 ** -24,
    2 ** -14,
    0.333251953125,
    65504,
    Infinity,
    -Infinity,
  ]);
  expect(Object.is(half[0x8000], -0)).toBe(true);
  expect(new Uint32Array(half.buffer)[0xfe01]).toBe(0xffc02000);
  expect([...(await opened.readFloat32("one")).data]).toEqual([Math.fround(0.1), -Infinity, 0]);
});

test("bytes that are not aligned are copied first", () => {
  const unaligned = (array: Float32Array | Float64Array | Uint16Array) => {
    const bytes = new Uint8Array(array.byteLength + 1);
    bytes.set(new Uint8Array(array.buffer), 1);
    return bytes.subarray(1);
  };
  expect([...toFloat32("F32", unaligned(new Float32Array([1.5, -2])))]).toEqual([1.5, -2]);
  expect([...toFloat32("F64", unaligned(new Float64Array([1.5, -2])))]).toEqual([1.5, -2]);
  expect([...toFloat32("F16", unaligned(new Uint16Array([0x3c00])))]).toEqual([1]);
  expect([...toFloat32("BF16", unaligned(new Uint16Array([0x3f80, 0xc000])))]).toEqual([1, -2]);
});

test("an empty tensor may share its place with the next, whatever the order of the entries", async () => {
  const opened = await openBytes(fileOf({ b: u8(0, 3), empty: u8(0, 0), last: u8(3, 3) }, 3));
  expect([...opened.tensors.keys()]).toEqual(["empty", "b", "last"]);
});

test("write, then read: all dtypes, scalars, empty tensors and odd names come back", async () => {
  const tensors: [string, RawTensor][] = [
    ["scalar", raw("F32", [], new Float32Array([7]))],
    ["empty", raw("F16", [0, 4], new Uint16Array())],
    ["bool", raw("BOOL", [3], new Uint8Array([1, 0, 1]))],
    ["i8", raw("I8", [1], new Int8Array([-5]))],
    ["i16", raw("I16", [2], new Int16Array([-2, 3]))],
    ["i32", raw("I32", [1, 1], new Int32Array([-9]))],
    ["i64", raw("I64", [1], new BigInt64Array([-1n]))],
    ["10", raw("BF16", [1], new Uint16Array([0x3f80]))],
    ["__proto__", raw("U8", [1], new Uint8Array([4]))],
    ['weiß "\\\n', raw("F64", [1], new Float64Array([0.5]))],
  ];
  const metadata = { z: "1", __proto__x: "ü", a: "" };
  const bytes = writeSafetensors(tensors, metadata);
  const opened = await openBytes(bytes);
  expect(opened.metadata).toEqual(metadata);
  expect([...opened.tensors.keys()].sort()).toEqual(tensors.map(([name]) => name).sort());
  for (const [name, { dtype, shape, bytes: expected }] of tensors) {
    expect(opened.tensors.get(name)).toMatchObject({ dtype, shape });
    expect([...(await opened.readBytes(name))], name).toEqual([...expected]);
  }
  expect(writeSafetensors([...tensors].reverse(), { a: "", z: "1", __proto__x: "ü" })).toEqual(bytes);
});

test("in pieces the file is the same, and bytes that do not fit are refused", async () => {
  const tensors = new Map([
    ["b", raw("F32", [2], Float32Array.of(1, 2))],
    ["a", raw("BF16", [3], Uint16Array.of(1, 2, 3))],
    ["c", raw("F32", [0, 4], new Float32Array())],
  ]);
  const pieces: Uint8Array[] = [];
  for await (const piece of streamSafetensors(tensors, async (name) => tensors.get(name)!.bytes)) pieces.push(piece);
  expect(pieces).toHaveLength(4);
  expect(Buffer.concat(pieces).equals(writeSafetensors(tensors))).toBe(true);
  const drain = async () => {
    for await (const _ of streamSafetensors(tensors, async () => new Uint8Array(8)));
  };
  await expect(drain()).rejects.toThrow(/tensor "c": F32 \[0,4\] needs 0 bytes, got 8/);
});

test("the written bytes are the reference writer's", () => {
  // From Python's safetensors 0.8.0: save({"b": float32 [1, 2], "a": float32 [3], "n": int64 4}, {"format": "pt"}).
  const header =
    '{"__metadata__":{"format":"pt"},"n":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}';
  const bytes = writeSafetensors([
    ["b", f32([1, 2])],
    ["n", raw("I64", [], new BigInt64Array([4n]))],
    ["a", f32(new Float32Array([9, 3]).subarray(1))],
  ]);
  const padded = header.padEnd(Math.ceil(header.length / 8) * 8, " ");
  expect(Buffer.from(bytes.subarray(0, 8)).readBigUInt64LE()).toBe(BigInt(padded.length));
  expect(Buffer.from(bytes.subarray(8, 8 + padded.length)).toString()).toBe(padded);
  expect(Buffer.from(bytes.subarray(8 + padded.length)).toString("hex")).toBe("0400000000000000000040400000803f00000040");
});

test("nothing at all is a valid file", async () => {
  const opened = await openBytes(writeSafetensors([], {}));
  expect(opened.tensors.size).toBe(0);
  expect(opened.metadata).toEqual({});
});

test("the writer refuses what it could not read back, all faults at once", () => {
  const write = () =>
    writeSafetensors([
      ["a", f32([1])],
      ["a", f32([1])],
      ["__metadata__", f32([1])],
      ["short", { dtype: "I64", shape: [2], bytes: new Uint8Array(15) }],
    ]);
  expect(write).toThrow(WeightError);
  expect(write).toThrow(
    /tensor "a": given twice\n.*"__metadata__": cannot be a tensor's name\n.*"short": I64 \[2\] needs 16 bytes, got 15/,
  );
});

test("asking for what is not there, or for floats of an integer tensor", async () => {
  const opened = await openBytes(
    writeSafetensors([
      ["layer.weight", f32([1])],
      ["ids", raw("I64", [1], new BigInt64Array(1))],
    ]),
  );
  await expect(opened.readFloat32("layer.weigth")).rejects.toMatchObject({
    code: "E_WEIGHT",
    message: 'folder/x.safetensors: no tensor "layer.weigth" among its 2',
    hint: "Did you mean layer.weight?",
  });
  await expect(opened.readFloat32("ids")).rejects.toThrow(/tensor "ids" holds integers \(I64\)/);
  await expect(openSafetensors(memoryFiles("folder", {}), "x.safetensors")).rejects.toThrow(FileError);
});

test.each<[string, Uint8Array, string | RegExp]>([
  ["an empty file", new Uint8Array(), "0 bytes, a safetensors file has at least 8"],
  ["seven bytes", new Uint8Array(7), "7 bytes"],
  ["a length over 2^53", fileOf("{}", 0, 2n ** 53n + 2n), "a header of 9007199254740994 bytes, at most 100000000"],
  ["a length whose low half looks right", fileOf("{}", 0, 2n ** 32n + 2n), "a header of 4294967298 bytes"],
  ["a length over the limit", fileOf("{}", 0, 100_000_001n), "a header of 100000001 bytes"],
  ["a length beyond the file", fileOf("{}", 0, 3n), "truncated: the header needs 11 bytes, the file has 10"],
  ["no header", fileOf("", 0), 'does not start with "{"'],
  ["an array", fileOf("[]"), 'does not start with "{"'],
  ["a leading space", fileOf(" {}"), 'does not start with "{"'],
  ["a byte order mark", fileOf("\ufeff{}"), 'does not start with "{"'],
  ["bytes that are not UTF-8", Uint8Array.from([...fileOf("{    }").slice(0, 10), 0xff, ...fileOf("{    }").slice(11)]), "not UTF-8"],
  ["half a header", fileOf('{"a":'), "not valid JSON at character 5: expected a value, found the end of the text"],
  ["text after the header", fileOf("{}x"), "not valid JSON at character 2"],
  ["a zero byte after the header", fileOf("{}\0"), "not valid JSON at character 2"],
  ["deep nesting", fileOf(`{"a":${"[".repeat(1_000_000)}`), "nested deeper than"],
  [
    "a tensor twice",
    fileOf('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1),
    'key "a" appears twice',
  ],
  ["a field twice", fileOf('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"shape":[1]}}', 1), 'key "shape" appears twice'],
  ["metadata twice", fileOf('{"__metadata__":{"a":"1","a":"1"}}'), 'key "a" appears twice'],
  ["metadata that is no object", fileOf({ __metadata__: null }), "__metadata__ is not an object"],
  ["metadata of numbers", fileOf({ __metadata__: { a: "1", b: 2 } }), '__metadata__ entry "b" is not a string'],
  ["an entry that is no object", fileOf({ a: [1] }), 'tensor "a": its entry is not an object'],
  ["an unknown dtype", fileOf({ a: { ...u8(0, 1), dtype: "Q3" } }, 1), 'tensor "a": dtype "Q3" is unknown'],
  ["a name that objects have anyway", fileOf({ a: { ...u8(0, 1), dtype: "toString" } }, 1), 'dtype "toString" is unknown'],
  ["an 8-bit float", fileOf({ a: { ...u8(0, 1), dtype: "F8_E4M3" } }, 1), 'tensor "a": dtype "F8_E4M3" is not supported'],
  ["no dtype", fileOf({ a: { shape: [1], data_offsets: [0, 1] } }, 1), 'tensor "a": dtype is not a string'],
  ["a negative size", fileOf({ a: { ...u8(0, 1), shape: [-1, -1] } }, 1), 'found "-1"'],
  ["a fraction", fileOf('{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}', 1), 'found "1.0"'],
  [
    "an unsafe integer",
    fileOf('{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,1]}}', 1),
    'tensor "a": shape is not a list',
  ],
  ["a size as text", fileOf({ a: { ...u8(0, 1), shape: ["1"] } }, 1), 'tensor "a": shape is not a list'],
  [
    "a product that overflows",
    fileOf({ a: { ...u8(0, 0), shape: [2 ** 30, 2 ** 30, 0] } }),
    'tensor "a": shape [1073741824,1073741824,0] has more than 2^53',
  ],
  ["three offsets", fileOf({ a: { ...u8(0, 1), data_offsets: [0, 1, 1] } }, 1), 'tensor "a": data_offsets is not two'],
  [
    "offsets in the wrong order",
    fileOf({ a: { ...u8(0, 1), data_offsets: [1, 0] } }, 1),
    'tensor "a": data_offsets begin after their end, [1, 0]',
  ],
  [
    "a size that does not fit",
    fileOf({ a: { ...u8(0, 2), shape: [3] } }, 2),
    'tensor "a": U8 [3] needs 3 bytes, data_offsets [0, 2] hold 2',
  ],
  ["an overlap", fileOf({ a: u8(0, 3), b: u8(2, 4) }, 4), 'tensor "b": begins at byte 2, inside the tensor before it, which ends at 3'],
  ["an empty tensor inside another", fileOf({ a: u8(0, 3), b: u8(2, 2) }, 3), 'tensor "b": begins at byte 2, inside'],
  ["two tensors in one place", fileOf({ a: u8(0, 3), b: u8(0, 3) }, 3), 'tensor "b": begins at byte 0, inside'],
  ["a hole", fileOf({ a: u8(0, 1), b: u8(2, 4) }, 4), 'tensor "b": begins at byte 2, but the tensor before it ends at 1'],
  ["a hole at the start", fileOf({ a: u8(1, 2) }, 2), 'tensor "a": begins at byte 1, but the tensor before it ends at 0'],
  ["bytes left over", fileOf({ a: u8(0, 1) }, 3), "2 bytes at the end belong to no tensor"],
  ["a file cut by one byte", fileOf({ a: u8(0, 1), b: u8(1, 9) }, 8), /tensor "b": truncated: data up to byte 9 is promised/],
  [
    "a truncated file",
    fileOf({ a: u8(0, 1), b: u8(1, 9), c: u8(9, 20) }, 5),
    /tensor "b" \(and 1 more\): truncated: data up to byte 20 is promised, but the file has \d+ bytes, 5 of them/,
  ],
])("refuses %s", async (_, bytes, message) => {
  expect(await refusal(bytes)).toMatch(message);
});

test("all faults are listed at once, and not more than twenty of them", async () => {
  const two = await refusal(fileOf({ a: { ...u8(0, 1), shape: [3] }, b: 1, __metadata__: { c: 1 } }, 1));
  expect(two).toBe(
    'folder/x.safetensors: 3 faults:\n  __metadata__ entry "c" is not a string\n  tensor "a": U8 [3] needs 3 bytes, data_offsets [0, 1] hold 1\n  tensor "b": its entry is not an object',
  );
  const many = await refusal(fileOf(Object.fromEntries(Array.from({ length: 50 }, (__, i) => [`t${i}`, 0]))));
  expect(many.split("\n")).toHaveLength(22);
  expect(many).toMatch(/… and 30 more$/);
});
