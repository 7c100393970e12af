import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeZip } from "./zip.fixture.js";
import { openZip } from "./zip.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "zip-"));
});
afterEach(() => rm(folder, { recursive: true }));

const big = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * i) >> 7);
const files = { "a/stored.bin": big, "a/packed.bin": big, empty: new Uint8Array(0) };

async function unpack(bytes: Uint8Array, name: string): Promise<Uint8Array> {
  const path = join(folder, "x.zip");
  await writeFile(path, bytes);
  const zip = await openZip(path);
  const chunks: Uint8Array[] = [];
  try {
    await zip.extract(name, async (chunk) => void chunks.push(Uint8Array.from(chunk)));
  } finally {
    await zip.close();
  }
  return new Uint8Array(Buffer.concat(chunks));
}

test("stored, deflated and empty files come out as they went in", async () => {
  const zip = makeZip(files, ["a/stored.bin"]);
  for (const [name, body] of Object.entries(files)) expect(Buffer.compare(await unpack(zip, name), body), name).toBe(0);
});

test("a changed byte is found by the checksum, in stored and in deflated files", async () => {
  const zip = makeZip(files, ["a/stored.bin"]);
  zip[1000]! ^= 1;
  await expect(unpack(zip, "a/stored.bin")).rejects.toThrow(/CRC-32/);
  const second = makeZip({ packed: big });
  second[second.length >> 1]! ^= 1;
  await expect(unpack(second, "packed").then(() => "whole")).rejects.toMatchObject({
    code: "E_FILE",
    message: expect.stringMatching(/damaged/),
  });
});

test("an archive that was cut off, or is none, is refused", async () => {
  const zip = makeZip(files);
  await expect(unpack(zip.subarray(0, zip.length - 30), "empty")).rejects.toThrow(/no end record/);
  await expect(unpack(new TextEncoder().encode("<html>"), "empty")).rejects.toThrow(/not a zip archive/);
  await expect(unpack(zip, "absent")).rejects.toThrow(/holds no absent/);
});
