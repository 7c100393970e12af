import { expect, test } from "vitest";
import { f32 } from "../core/tensor.js";
import { memoryFiles } from "./memory-files.js";
import { openStoredZip } from "./stored-zip.js";
import { openTorch } from "./torch-bin.js";
import { writeTorch } from "./torch-bin-write.js";

const tensors = [
  ["a.weight", f32([1, -2.5, 3, 4, 5, 6], [2, 3])],
  ["größe", f32([7])],
  ["scalar", f32([0.1], [])],
  ["empty", f32([], [0, 4])],
  ["long", f32(new Float32Array(70_000).fill(0.5), [70_000, 1])],
  ["view", f32(new Float32Array([9, 8, 7]).subarray(1), [2])],
] as const;

test("tensors come back as they were, in their order", async () => {
  const file = writeTorch(tensors);
  const source = await openTorch(memoryFiles("m", { "x.bin": file }), "x.bin");
  expect([...source.tensors.keys()]).toEqual(tensors.map(([name]) => name));
  for (const [name, tensor] of tensors) expect(await source.readFloat32(name), name).toEqual(tensor);
  expect(Buffer.compare(file, writeTorch(tensors))).toBe(0);
});

test("the archive is laid out as torch.save lays it out", async () => {
  const { sizes, read } = await openStoredZip(memoryFiles("m", { "x.bin": writeTorch(tensors.slice(0, 2)) }), "x.bin");
  expect([...sizes.keys()]).toEqual(["archive/data.pkl", "archive/byteorder", "archive/data/0", "archive/data/1", "archive/version"]);
  expect(new TextDecoder().decode(await read("archive/byteorder"))).toBe("little");
  expect(new TextDecoder().decode(await read("archive/version"))).toBe("3\n");
  expect(new Float32Array((await read("archive/data/0")).buffer)).toEqual(tensors[0][1].data);
});

test("no tensors", async () => {
  expect((await openTorch(memoryFiles("m", { "x.bin": writeTorch([]) }), "x.bin")).tensors.size).toBe(0);
});
