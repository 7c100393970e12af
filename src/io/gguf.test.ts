import { describe, expect, it, test } from "vitest";
import { f32 } from "../core/tensor.js";
import { WeightError } from "../errors.js";
import { openGguf } from "./gguf.js";
import { memoryFiles } from "./memory-files.js";
import { writeGguf } from "./write-gguf.js";

const a = f32(Float32Array.from([1, 2, 3, 4, 5, 6]), [2, 3]);
const b = f32(Float32Array.from([-1, 0.5]), [2]);
const file = writeGguf(
  { "general.architecture": "llama", "x.count": { u32: 7 }, "x.epsilon": { f32: 0.5 } },
  new Map([
    ["a", a],
    ["b", b],
  ]),
);
const open = (bytes: Uint8Array) => openGguf(memoryFiles("here", { "x.gguf": bytes }), "x.gguf");
const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset);
/** Where the entry of a tensor with a name of one letter has its number of dimensions. */
const entryOf = (bytes: Uint8Array, name: string): number => {
  const at = Buffer.from(bytes).lastIndexOf(Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, name.charCodeAt(0)]));
  return at + 9;
};

it("gives back what was written", async () => {
  const opened = await open(file);
  expect([...opened.metadata]).toEqual([
    ["general.architecture", "llama"],
    ["x.count", 7],
    ["x.epsilon", 0.5],
  ]);
  expect(opened.tensors.get("a")).toEqual({ dtype: "F32", shape: [2, 3] });
  expect(await opened.readFloat32("a")).toEqual(a);
  expect(await opened.readFloat32("b")).toEqual(b);
  await expect(opened.readFloat32("c")).rejects.toThrow(/x\.gguf: no tensor "c"/);
});

describe("what is wrong is said", () => {
  const changed = (change: (view: DataView, bytes: Uint8Array) => void): Uint8Array => {
    const bytes = file.slice();
    change(view(bytes), bytes);
    return bytes;
  };
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ["no magic", changed((v) => v.setUint8(0, 0x58)), /here\/x\.gguf: does not start with "GGUF"/],
    ["too short", file.slice(0, 3), /does not start with "GGUF"/],
    ["version", changed((v) => v.setUint32(4, 9, true)), /GGUF version 9, expected 2 or 3/],
    ["big-endian", changed((v) => v.setUint32(4, 3, false)), /version 3, big-endian/],
    ["count of tensors", changed((v) => v.setBigUint64(8, 2n ** 60n, true)), /1152921504606846976 tensors from byte 16 on do not fit/],
    ["count of pairs", changed((v) => v.setBigUint64(16, 2n ** 40n, true)), /1099511627776 metadata entries .* do not fit/],
    ["string length", changed((v) => v.setBigUint64(24, 2n ** 63n, true)), /9223372036854775808 bytes of text .* do not fit/],
    ["not UTF-8", changed((v) => v.setUint8(32, 0xff)), /a metadata key at byte 32 is not UTF-8/],
    ["type of metadata", changed((v) => v.setUint32(32 + "general.architecture".length, 13, true)), /"general.architecture" is of type 13/],
    ["cut in the header", file.slice(0, 100), /truncated: the file ends at byte 100, inside its header|do not fit/],
    ["cut in the data", file.slice(0, -40), /tensor "b": F32 \[2\] ends at byte \d+, the file has \d+: truncated\?/],
    [
      "quantisation",
      changed((v, bytes) => v.setUint32(entryOf(bytes, "a") + 20, 10, true)),
      /tensor "a": quantisation Q2_K is not read, expected one of F32.*Q4_1/,
    ],
    ["unknown type", changed((v, bytes) => v.setUint32(entryOf(bytes, "a") + 20, 999, true)), /quantisation number 999 is not read/],
    ["row and block", changed((v, bytes) => v.setUint32(entryOf(bytes, "a") + 20, 3, true)), /rows of 3 numbers, Q4_1 packs 32 at a time/],
    [
      "sizes that overflow",
      changed((v, bytes) => v.setBigUint64(entryOf(bytes, "a") + 4, 2n ** 63n, true)),
      /tensor "a": .*ends at byte \d{19,}/,
    ],
    ["dimensions", changed((v, bytes) => v.setUint32(entryOf(bytes, "a"), 5, true)), /tensor "a" has 5 dimensions/],
    ["offset", changed((v, bytes) => v.setBigUint64(entryOf(bytes, "a") + 24, 2n ** 62n, true)), /tensor "a": .* ends at byte/],
    [
      "alignment",
      changed((v, bytes) => v.setBigUint64(entryOf(bytes, "a") + 24, 4n, true)),
      /begins at byte 4 of the data, not at a multiple of 32/,
    ],
    [
      "overlap",
      changed((v, bytes) => v.setBigUint64(entryOf(bytes, "b") + 16, 0n, true)),
      /begins at byte \d+, inside "(a|b)", which ends/,
    ],
    ["a tensor twice", changed((v, bytes) => v.setUint8(entryOf(bytes, "b") - 1, 0x61)), /tensor "a" is given twice/],
  ];

  test.each(cases)("%s", async (_, bytes, message) => {
    await expect(open(bytes)).rejects.toThrow(WeightError);
    await expect(open(bytes)).rejects.toThrow(message);
  });

  test("of a file that was cut off, the first tensor beyond its end and how many more there are", async () => {
    await expect(open(file.slice(0, -60))).rejects.toThrow(
      /2 faults:\n {2}tensor ".": .*truncated\?\n {2}… and 1 more end beyond the file/,
    );
  });

  test("all tensors' faults at once", async () => {
    const bytes = changed((v, all) => {
      v.setUint32(entryOf(all, "a") + 20, 16, true);
      v.setUint32(entryOf(all, "b") + 12, 17, true);
    });
    await expect(open(bytes)).rejects.toThrow(/2 faults:[\s\S]*IQ2_XXS[\s\S]*IQ2_XS/);
  });
});

/** Thousands of damaged files: refused with a WeightError, or every tensor can be read. Anything else means a number was believed unchecked. */
test("4000 damaged files are refused with a WeightError, or can be read", async () => {
  let state = 20261124;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  let [read, refused] = [0, 0];
  for (let i = 0; i < 4000; i++) {
    const bytes = file.slice(0, random(5) === 0 ? random(file.length) : file.length);
    for (let n = 1 + random(3); n > 0; n--) {
      const at = random(Math.min(bytes.length, 220));
      if (random(2) === 0) bytes[at] = random(256);
      else if (at + 8 <= bytes.length)
        view(bytes).setBigUint64(at, BigInt([0, 1, 2 ** 31, 2 ** 32, 2 ** 53][random(5)]!) << BigInt(random(11)), true);
    }
    try {
      const opened = await open(bytes);
      for (const name of opened.tensors.keys()) await opened.readFloat32(name);
      read++;
    } catch (error) {
      if (!(error instanceof WeightError)) throw new Error(`case ${i}: ${Buffer.from(bytes).toString("base64")}`, { cause: error });
      refused++;
    }
  }
  expect(read).toBeGreaterThan(100);
  expect(refused).toBeGreaterThan(2000);
});
