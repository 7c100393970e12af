import { describe, expect, test } from "vitest";
import { memoryFiles } from "./memory-files.js";
import { openStoredZip } from "./stored-zip.js";
import { makeZip } from "./zip.fixture.js";
import { writeZip } from "./zip-write.js";

const text = (content: string): Uint8Array => new TextEncoder().encode(content);
const two = (): Uint8Array =>
  writeZip([
    { name: "a/first", bytes: text("one") },
    { name: "a/größe", bytes: text("twenty-two") },
  ]);
const open = (bytes: Uint8Array) => openStoredZip(memoryFiles("m", { zip: bytes }), "zip");

/** The archive with some little-endian numbers written over others; places from the end are negative. */
function patched(zip: Uint8Array, ...changes: readonly (readonly [at: number, size: 2 | 4, value: number])[]): Uint8Array {
  const view = new DataView(zip.buffer, zip.byteOffset, zip.byteLength);
  for (const [at, size, value] of changes) {
    const place = at < 0 ? zip.length + at : at;
    if (size === 2) view.setUint16(place, value, true);
    else view.setUint32(place, value, true);
  }
  return zip;
}

/** Where the directory's records start. */
function records(zip: Uint8Array): readonly number[] {
  const starts: number[] = [];
  for (let at = 0; ; ) {
    at = Buffer.from(zip).indexOf("PK\x01\x02", at, "latin1");
    if (at < 0) return starts;
    starts.push(at++);
  }
}

/** The same archive with zip64's records: all numbers that may stand there do, and the usual places hold ones only. */
function zip64(zip: Uint8Array): Uint8Array {
  const old = new DataView(zip.buffer, zip.byteOffset, zip.byteLength);
  const start = old.getUint32(zip.length - 6, true);
  const directory: Uint8Array[] = [];
  for (const at of records(zip)) {
    const end = at + 46 + old.getUint16(at + 28, true);
    const extra = new DataView(new ArrayBuffer(4 + 4 + 4 + 24)); // an unknown field comes first
    extra.setUint16(0, 0x9999, true);
    extra.setUint16(2, 4, true);
    extra.setUint16(8, 1, true);
    extra.setUint16(10, 24, true);
    [at + 24, at + 20, at + 42].forEach((field, i) => {
      extra.setBigUint64(12 + 8 * i, BigInt(old.getUint32(field, true)), true);
    });
    const record = patched(zip.slice(at, end), [20, 4, 0xffffffff], [24, 4, 0xffffffff], [30, 2, 36], [42, 4, 0xffffffff]);
    directory.push(record, new Uint8Array(extra.buffer));
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const end = new DataView(new ArrayBuffer(56 + 20));
  end.setUint32(0, 0x06064b50, true);
  end.setBigUint64(4, 44n, true);
  end.setBigUint64(24, BigInt(records(zip).length), true);
  end.setBigUint64(32, BigInt(records(zip).length), true);
  end.setBigUint64(40, BigInt(length), true);
  end.setBigUint64(48, BigInt(start), true);
  end.setUint32(56, 0x07064b50, true);
  end.setBigUint64(64, BigInt(start + length), true);
  const usual = patched(zip.slice(-22), [8, 2, 0xffff], [10, 2, 0xffff], [12, 4, 0xffffffff], [16, 4, 0xffffffff]);
  return Uint8Array.from([...zip.subarray(0, start), ...directory.flatMap((part) => [...part]), ...new Uint8Array(end.buffer), ...usual]);
}

describe.each([
  ["an archive", two()],
  ["a zip64 archive", zip64(two())],
  ["an archive with a comment", Uint8Array.from([...patched(two(), [-2, 2, 5]), ...text("hello")])],
  ["another writer's archive", makeZip({ "a/first": text("one"), "a/größe": text("twenty-two") }, ["a/first", "a/größe"])],
])("%s", (_, zip) => {
  test("tells sizes, and reads files whole and in part", async () => {
    const { sizes, read } = await open(zip);
    expect([...sizes]).toEqual([
      ["a/first", 3],
      ["a/größe", 10],
    ]);
    expect(await read("a/first")).toEqual(text("one"));
    expect(await read("a/größe", 7)).toEqual(text("two"));
    expect(await read("a/größe", 2, 4)).toEqual(text("en"));
    expect(await read("a/größe", 10)).toEqual(text(""));
  });
});

test("files that are not there, and bytes that a file does not have", async () => {
  await expect(openStoredZip(memoryFiles("m", {}), "zip")).rejects.toThrow(/m\/zip: no such file/);
  const { read } = await open(two());
  await expect(read("a/third")).rejects.toThrow(/holds no a\/third/);
  await expect(read("a/first", 0, 4)).rejects.toThrow(/a\/first has 3 bytes, asked for 0 to 4/);
  await expect(read("a/first", 4)).rejects.toThrow(/a\/first has 3 bytes/);
});

test.each<[string, Uint8Array, RegExp]>([
  ["what is no archive", text("<html>"), /m\/zip is damaged: no end record: it is not a zip archive/],
  ["an empty file", new Uint8Array(), /not a zip archive/],
  ["one that was cut off", two().slice(0, -30), /no end record/],
  ["one whose start is missing", two().slice(50), /its directory does not lie inside it/],
  ["a directory that is said to be longer", patched(two(), [-10, 4, 500]), /does not lie inside it/],
  ["a directory that is said to be elsewhere", patched(two(), [-6, 4, 3]), /its directory is damaged/],
  ["more files than there are", patched(two(), [-12, 2, 3]), /its directory is damaged/],
  ["a name longer than the directory", patched(two(), [records(two())[1]! + 28, 2, 999]), /its directory is damaged/],
  ["an offset behind the directory", patched(two(), [records(two())[0]! + 42, 4, 5000]), /a\/first does not lie inside it/],
  ["a size that reaches into the directory", patched(two(), [records(two())[1]! + 20, 4, 90]), /a\/größe does not lie inside it/],
  ["two files of one name", writeZip([1, 2].map((byte) => ({ name: "x", bytes: Uint8Array.of(byte) }))), /x is there twice/],
  ["encrypted files", patched(two(), [records(two())[0]! + 8, 2, 0x801]), /a\/first is encrypted/],
  ["compressed files", makeZip({ a: text("a"), b: text("b"), c: text("c") }, ["b"]), /2 faults:\n {2}a is compressed\n {2}c is compressed/],
  ["two sizes of a stored file", patched(two(), [records(two())[0]! + 24, 4, 4]), /a\/first is compressed/],
  ["zip64's mark without its records", patched(two(), [-6, 4, 0xffffffff]), /no zip64 end record/],
  ["zip64's mark without its extra field", patched(two(), [records(two())[0]! + 24, 4, 0xffffffff]), /a\/first is compressed/],
  ["zip64's offset without its extra field", patched(two(), [records(two())[0]! + 42, 4, 0xffffffff]), /a\/first does not lie inside it/],
  ["zip64's end record beyond the end", patched(zip64(two()), [-22 - 12, 4, 99999]), /no zip64 end record/],
  ["zip64's numbers beyond 2^53", patched(zip64(two()), [-22 - 20 - 4, 4, 0xffffffff]), /its directory does not lie inside it/],
])("refuses %s", async (_, zip, message) => {
  await expect(open(zip)).rejects.toThrow(message);
  await expect(open(zip)).rejects.toMatchObject({ code: "E_WEIGHT", hint: expect.any(String) });
});

test.each<[string, (zip: Uint8Array) => Uint8Array, RegExp]>([
  ["an offset at which no header is", (zip) => patched(zip, [records(zip)[1]! + 42, 4, 1]), /a\/größe has no header/],
  ["an offset of another file", (zip) => patched(zip, [records(zip)[1]! + 42, 4, 0]), /a\/größe has no header/],
  ["a header with a longer extra field", (zip) => patched(zip, [28, 2, 9999]), /a\/first ends after it/],
])("a file is refused for %s, when it is read", async (_, change, message) => {
  const { sizes, read } = await open(change(two()));
  const name = [...sizes.keys()].find((each) => message.source.includes(each.slice(2)))!;
  await expect(read(name)).rejects.toThrow(message);
});
