import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { dequantize } from "./gguf-dequantize.js";
import { ggufTypes } from "./gguf-types.js";

const golden: Readonly<Record<string, { bytes: string; numbers: string }>> = JSON.parse(
  readFileSync(new URL("../../test/golden/gguf/blocks.json", import.meta.url), "utf8"),
);
const types = [...ggufTypes.values()];

it("every type has golden blocks", () => {
  expect(Object.keys(golden).sort()).toEqual(types.map(({ name }) => name).sort());
});

it.each(types)("$name: the bits are those of gguf.quants.dequantize", (type) => {
  const { bytes, numbers } = golden[type.name]!;
  // at an odd place, as a view into a file may be
  const packed = Uint8Array.from([0, ...Buffer.from(bytes, "base64")]).subarray(1);
  const out = dequantize(type, packed);
  expect(out.length).toBe((packed.length / type.bytes) * type.block);
  expect(Buffer.from(out.buffer, out.byteOffset, out.byteLength).toString("base64")).toBe(numbers);
});
