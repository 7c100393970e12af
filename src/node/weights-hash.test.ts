import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { memoryFiles } from "../io/memory-files.js";
import { weightsSha256 } from "./weights-hash.js";

const hash = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");
const one = Uint8Array.of(1);
const two = Uint8Array.of(2);

test.each(["model.safetensors", "pytorch_model.bin"])("of %s: that of the file", async (name) => {
  expect(await weightsSha256(memoryFiles("m", { [name]: one, "other.bin": two }))).toBe(hash(one));
});

test("safetensors come first, as in reading", async () => {
  expect(await weightsSha256(memoryFiles("m", { "model.safetensors": one, "pytorch_model.bin": two }))).toBe(hash(one));
});

test.each(["model.safetensors.index.json", "pytorch_model.bin.index.json"])(
  "of the shards in %s: that of their hashes, by name",
  async (name) => {
    const index = new TextEncoder().encode(JSON.stringify({ weight_map: { a: "2", b: "1", c: "2" } }));
    expect(await weightsSha256(memoryFiles("m", { [name]: index, 1: one, 2: two }))).toBe(hash(`${hash(one)}\n${hash(two)}\n`));
  },
);
