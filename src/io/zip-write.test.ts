import { crc32 } from "node:zlib";
import { expect, test } from "vitest";
import { writeZip } from "./zip-write.js";

test("one file, byte by byte", () => {
  const zip = Buffer.from(writeZip([{ name: "é", bytes: Uint8Array.of(1, 2, 3) }]));
  const sum = Buffer.alloc(4);
  sum.writeUInt32LE(crc32(Uint8Array.of(1, 2, 3)));
  const common = `14000008000000002100${sum.toString("hex")}03000000030000000200`;
  const local = `504b0304${common}2000c3a946421c00${"00".repeat(28)}`;
  const central = `504b01021400${common}${"00".repeat(16)}c3a9`;
  const end = `504b0506000000000100010030000000430000000000`;
  expect(zip.toString("hex")).toBe(`${local}010203${central}${end}`);
});

test("files start at multiples of 64, and equal files give equal bytes", () => {
  const members = [0, 1, 63, 64, 200].map((size) => ({ name: `file${size}`, bytes: new Uint8Array(size).fill(0xab) }));
  const zip = writeZip(members);
  expect(Buffer.compare(zip, writeZip(members))).toBe(0);
  let at = 0;
  for (const { name, bytes } of members) {
    at = Buffer.from(zip).indexOf(name, at);
    const start = Math.ceil((at + name.length + 4) / 64) * 64;
    expect(zip.subarray(start, start + bytes.length)).toEqual(bytes);
    at = start + bytes.length;
  }
});

test("what would need zip64 is refused", () => {
  const empty = { name: "x", bytes: new Uint8Array() };
  expect(() => writeZip(new Array(65536).fill(empty))).toThrow(/at most 65535 files and 4 GiB/);
});
