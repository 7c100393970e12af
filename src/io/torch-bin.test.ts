import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { f32 } from "../core/tensor.js";
import { directory } from "./directory.js";
import { memoryFiles } from "./memory-files.js";
import { floats, type PickledTensor, pickle, pickledDict, pickledTensor, torchFile } from "./torch-bin.fixture.js";
import { openTorch } from "./torch-bin.js";
import { writeZip } from "./zip-write.js";

const fixtures = fileURLToPath(new URL("fixtures/", import.meta.url));
const open = (file: Uint8Array) => openTorch(memoryFiles("m", { "x.bin": file }), "x.bin");

/** What torch read from the same file. */
type Expected = Readonly<Record<string, { readonly dtype: string; readonly shape: readonly number[]; readonly values: readonly number[] }>>;
const expected = JSON.parse(readFileSync(`${fixtures}torch-save.json`, "utf8")) as Expected;

test.each(["torch-save.bin", "torch-save-protocol4.bin"])("%s of torch.save: every tensor as torch itself reads it", async (name) => {
  const { tensors, readFloat32 } = await openTorch(directory(fixtures), name);
  expect([...tensors].map(([key, { dtype, shape }]) => [key, dtype, shape])).toEqual(
    Object.entries(expected).map(([key, { dtype, shape }]) => [key, dtype, shape]),
  );
  for (const [key, { dtype, shape, values }] of Object.entries(expected)) {
    if (/F/.test(dtype)) expect(await readFloat32(key), key).toEqual(f32(values, shape));
    else await expect(readFloat32(key)).rejects.toThrow(/holds integers \(/);
  }
  await expect(readFloat32("block2")).rejects.toMatchObject({ code: "E_WEIGHT", hint: "Did you mean block?" });
});

test("the fixture has what it is there for", () => {
  expect([...new Set(Object.values(expected).map(({ dtype }) => dtype))].sort()).toEqual(
    ["BF16", "BOOL", "F16", "F32", "F64", "I16", "I32", "I64", "I8", "U8"].sort(),
  );
  const block = expected.block!.values;
  expect(expected.transposed!.values.slice(0, 3)).toEqual([block[0], block[3], block[6]]);
  expect(expected.slice!.values).toEqual([16, 22, 28, 31, 37, 43].map((i) => block[i]));
  expect(expected.tied).toEqual(expected.parameter);
});

test("only the asked bytes of a storage are read", async () => {
  const reads: number[] = [];
  const files = memoryFiles("m", {
    "x.bin": torchFile(pickledDict({ a: { count: 100, offset: 40, shape: [2, 3], strides: [3, 1] } }), {
      0: floats(...Array.from({ length: 100 }, (_, i) => i)),
    }),
  });
  const { readFloat32 } = await openTorch(
    {
      ...files,
      read(name, start = 0, end = 0) {
        reads.push(end - start);
        return files.read(name, start, end);
      },
    },
    "x.bin",
  );
  reads.length = 0;
  expect(await readFloat32("a")).toEqual(f32([40, 41, 42, 43, 44, 45], [2, 3]));
  expect(reads).toEqual([30 + "x/data/0".length, 24]); // the header in the archive, then six numbers
});

describe("tensors that are refused", () => {
  const storage = { 0: floats(1, 2, 3, 4) };
  test.each<[string, PickledTensor, RegExp]>([
    [
      "one beyond the storage",
      { count: 4, shape: [5], strides: [1] },
      /tensor "t": \[5\] with strides \[1\] at 0 ends outside its storage of 4/,
    ],
    ["an offset beyond it", { count: 4, offset: 3, shape: [2], strides: [1] }, /at 3 ends outside its storage of 4/],
    ["strides beyond it", { count: 4, shape: [2, 2], strides: [3, 1] }, /\[2,2\] with strides \[3,1\] at 0 ends outside/],
    ["a storage that is not there", { key: "7", count: 4, shape: [4], strides: [1] }, /its storage "7" is not in the archive/],
    ["a key that climbs", { key: "../data/0", count: 4, shape: [4], strides: [1] }, /its storage "\.\.\/data\/0" is not in the archive/],
    ["a storage of another size", { count: 5, shape: [5], strides: [1] }, /5 F32 has 16 bytes, expected 20/],
    ["a storage of another type", { type: "DoubleStorage", count: 4, shape: [4], strides: [1] }, /4 F64 has 16 bytes, expected 32/],
    ["numbers repeated by a stride of 0", { count: 4, shape: [200, 200], strides: [0, 0] }, /repeats the 4 elements of its storage/],
    ["more elements than can be", { count: 4, shape: new Array(9).fill(255), strides: new Array(9).fill(0) }, /more than 2\^53 elements/],
    ["shape and strides of two lengths", { count: 4, shape: [4], strides: [4, 1] }, /_rebuild_tensor_v2 has arguments/],
    ["complex numbers", { type: "ComplexFloatStorage", count: 4, shape: [2], strides: [1] }, /names "torch\.ComplexFloatStorage"/],
    ["a storage type that is a module's field", { type: "constructor", count: 4, shape: [2], strides: [1] }, /names "torch\.constructor"/],
  ])("%s", async (_, tensor, message) => {
    const file = torchFile(pickledDict({ t: tensor }), storage);
    await expect(open(file)).rejects.toThrow(message);
    await expect(open(file)).rejects.toMatchObject({ code: "E_WEIGHT", hint: expect.any(String) });
  });

  test("all of them are listed", async () => {
    const tensor = { count: 4, shape: [5], strides: [1] };
    await expect(open(torchFile(pickledDict({ a: tensor, b: { ...tensor, shape: [3] }, c: tensor }), storage))).rejects.toThrow(
      /2 faults:\n {2}tensor "a".*\n {2}tensor "c"/,
    );
  });
});

const one: PickledTensor = { count: 1, shape: [1], strides: [1] };
test.each<[string, Uint8Array, RegExp]>([
  [
    "code",
    torchFile(pickle("\x80\x02cos\nsystem\n", { text: "touch /tmp/x" }, "\x85R.")),
    /m\/x\.bin: refused at byte 13 of its pickle: it names "os\.system"/,
  ],
  [
    "code in a tensor's place",
    torchFile(pickledDict({ a: pickle("cbuiltins\neval\n", { text: "1" }, "\x85R") })),
    /names "builtins\.eval"/,
  ],
  [
    "numpy's arrays",
    torchFile(pickledDict({ a: pickle("cnumpy.core.multiarray\n_reconstruct\n)R") })),
    /numpy\.core\.multiarray\._reconstruct/,
  ],
  ["a torch script", torchFile(pickle("\x80\x02c__torch__.Model\nM\n)\x81.")), /names "__torch__\.Model\.M"/],
  ["an object with a state", torchFile(pickledDict({ a: pickle("ccollections\nOrderedDict\n)\x81") })), /opcode NEWOBJ/],
  ["an OrderedDict of arguments", torchFile(pickledDict({ a: pickle("ccollections\nOrderedDict\n]\x85R") })), /OrderedDict has arguments/],
  ["a storage that is no tuple", torchFile(pickledDict({ a: pickle({ text: "0" }, "Q") })), /a storage has arguments/],
  [
    "a storage of no type",
    torchFile(pickledDict({ a: pickle("(", { text: "storage" }, "N", { text: "0" }, "NK\x01tQ") })),
    /a storage has arguments/,
  ],
  [
    "a tensor of no storage",
    torchFile(pickledDict({ a: pickle("ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))\x89NtR") })),
    /_rebuild_tensor_v2 has/,
  ],
  ["a negative stride", torchFile(pickledDict({ a: negativeStride() }), { 0: floats(1) }), /_rebuild_tensor_v2 has arguments/],
  [
    "a parameter of no tensor",
    torchFile(pickledDict({ a: pickle("ctorch._utils\n_rebuild_parameter\nN\x88N\x87R") })),
    /_rebuild_parameter has/,
  ],
  [
    "a tensor alone",
    torchFile(Uint8Array.from([...pickle("\x80\x02"), ...pickledTensor(one), ...pickle(".")]), { 0: floats(1) }),
    /holds no dict of tensors/,
  ],
  [
    "a training checkpoint",
    torchFile(pickledDict({ epoch: pickle("K\x03"), model: pickle("}"), loss: pickle("]") })),
    /3 faults:\n {2}"epoch" is no tensor\n {2}"model" is no tensor/,
  ],
  ["keys that are no texts", torchFile(pickle("\x80\x02}K\x01K\x02s.")), /a key that is no text/],
  [
    "big-endian numbers",
    torchFile(pickledDict({ a: one }), { 0: floats(1) }, { byteorder: "big" }),
    /byteorder is "big", only "little" is read/,
  ],
  ["an archive of something else", writeZip([{ name: "word/document.xml", bytes: floats(1) }]), /0 files data\.pkl in the archive/],
  ["two archives in one", writeZip(["x", "y"].map((name) => ({ name: `${name}/data.pkl`, bytes: pickle("N.") }))), /2 files data\.pkl/],
  ["the format before torch 1.6", new Uint8Array(readFileSync(`${fixtures}torch-save-legacy.bin`)), /format of torch before 1\.6/],
  ["a web page", new TextEncoder().encode("<html>"), /not a zip archive/],
  ["an empty file", new Uint8Array(), /not a zip archive/],
])("refuses %s", async (_, file, message) => {
  await expect(open(file)).rejects.toThrow(message);
  await expect(open(file)).rejects.toMatchObject({ code: "E_WEIGHT", hint: expect.any(String) });
});

/** A tensor whose stride is -1, as BININT. */
function negativeStride(): Uint8Array {
  return pickle(
    "ctorch._utils\n_rebuild_tensor_v2\n((",
    { text: "storage" },
    "ctorch\nFloatStorage\n",
    { text: "0" },
    { text: "cpu" },
    "K\x01tQK\x00K\x01\x85J\xff\xff\xff\xff\x85\x89NtR",
  );
}

test("a file that is missing", async () => {
  await expect(openTorch(memoryFiles("m", {}), "x.bin")).rejects.toThrow(/no such file/);
});
