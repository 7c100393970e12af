import { expect, test } from "vitest";
import { f32 } from "../core/tensor.js";
import { memoryFiles } from "./memory-files.js";
import { writeSafetensors } from "./safetensors.js";
import { writeTorch } from "./torch-bin-write.js";
import { openWeights } from "./weights.js";

const encode = (value: unknown) => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
const INDEX = "model.safetensors.index.json";
const ONE = writeSafetensors([
  ["a", f32([1, 2])],
  ["extra", f32([0])],
]);
const TWO = writeSafetensors([
  ["b", f32([3])],
  ["extra", f32([0])],
]);
const sharded = (map: unknown, shards: Record<string, Uint8Array> = { "1.safetensors": ONE, "2.safetensors": TWO }) =>
  memoryFiles("m", { ...shards, [INDEX]: encode({ metadata: { total_size: 12 }, weight_map: map }) });

test("a single file comes before an index", async () => {
  const weights = await openWeights(memoryFiles("m", { "model.safetensors": ONE, [INDEX]: encode("junk") }));
  expect([...weights.tensors.keys()]).toEqual(["a", "extra"]);
  expect(await weights.readFloat32("a")).toEqual(f32([1, 2]));
});

test("shards make one source; tensors that the index leaves out are left out, each shard's header is read once", async () => {
  const files = sharded({ b: "2.safetensors", a: "1.safetensors" });
  const reads: string[] = [];
  const weights = await openWeights({
    ...files,
    read(name, start, end) {
      reads.push(`${name} ${start}`);
      return files.read(name, start, end);
    },
  });
  expect(reads.filter((read) => read.endsWith(" 0")).sort()).toEqual(["1.safetensors 0", "2.safetensors 0"]);
  expect([...weights.tensors.keys()]).toEqual(["b", "a"]);
  expect(weights.tensors.get("a")).toMatchObject({ dtype: "F32", shape: [2] });
  expect((await weights.readFloat32("a")).data).toEqual(new Float32Array([1, 2]));
  expect((await weights.readFloat32("b")).data).toEqual(new Float32Array([3]));
  await expect(weights.readFloat32("extra")).rejects.toMatchObject({ code: "E_WEIGHT" });
});

test.each<[string, ReturnType<typeof memoryFiles>, string | RegExp]>([
  [
    "shards that are missing, all of them",
    sharded({ a: "1.safetensors", b: "x.safetensors", c: "y.safetensors" }),
    /2 faults:\n.*"x.safetensors" is missing in m\n.*"y.safetensors"/,
  ],
  [
    "tensors that are not where the index says",
    sharded({ a: "2.safetensors", zzz: "1.safetensors" }),
    /tensor "a" is not in "2.safetensors"\n.*tensor "zzz" is not in "1.safetensors"/,
  ],
  [
    "a tensor in two shards",
    sharded({ a: "1.safetensors", b: "2.safetensors", extra: "1.safetensors" }),
    'tensor "extra" belongs to "1.safetensors", but "2.safetensors" has it as well',
  ],
  ["a path that climbs", sharded({ a: "../1.safetensors" }), /tensor "a": .* is not the plain name/],
  ["an absolute path", sharded({ a: "/1.safetensors" }), "is not the plain name"],
  ["a Windows path", sharded({ a: "C:\\1.safetensors" }), "is not the plain name"],
  ["dots", sharded({ a: ".." }), "is not the plain name"],
  ["a shard that is no text", sharded({ a: 3 }), "is not the plain name"],
  ["no map", sharded([]), "weight_map is not an object"],
  ["a damaged shard", sharded({ a: "1.safetensors" }, { "1.safetensors": ONE.slice(0, -1) }), /^m\/1\.safetensors: .*truncated/],
  [
    "no weights",
    memoryFiles("m", {}),
    "looked for model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json",
  ],
])("refuses %s", async (_, files, message) => {
  await expect(openWeights(files)).rejects.toMatchObject({
    code: "E_WEIGHT",
    message: expect.stringMatching(message),
    hint: expect.any(String),
  });
});

test("an index that is damaged or names a tensor twice", async () => {
  const twice = memoryFiles("m", { [INDEX]: encode('{"weight_map":{"a":"1.safetensors",\n"a":"2.safetensors"}}') });
  await expect(openWeights(twice)).rejects.toThrow(`m/${INDEX}: not valid JSON at line 2, column 1: key "a" appears twice`);
});

test("torch's files serve where no safetensors are: one file, or shards", async () => {
  const bin = writeTorch([["a", f32([5, 6])]]);
  const single = await openWeights(memoryFiles("m", { "pytorch_model.bin": bin, "pytorch_model.bin.index.json": encode("junk") }));
  expect(await single.readFloat32("a")).toEqual(f32([5, 6]));
  const index = encode({ weight_map: { a: "1.bin", b: "2.bin" } });
  const shards = { "1.bin": bin, "2.bin": writeTorch([["b", f32([7])]]), "pytorch_model.bin.index.json": index };
  const sharded = await openWeights(memoryFiles("m", shards));
  expect([await sharded.readFloat32("a"), await sharded.readFloat32("b")]).toEqual([f32([5, 6]), f32([7])]);
  await expect(sharded.readFloat32("c")).rejects.toThrow('m/pytorch_model.bin.index.json: no tensor "c" among its 2');
});

test("safetensors, sharded too, come before torch's files", async () => {
  const junk = { "pytorch_model.bin": encode("junk"), "pytorch_model.bin.index.json": encode("junk") };
  expect((await openWeights(memoryFiles("m", { ...junk, "model.safetensors": ONE }))).tensors.size).toBe(2);
  const index = { [INDEX]: encode({ weight_map: { a: "1.safetensors" } }), "1.safetensors": ONE };
  expect(await (await openWeights(memoryFiles("m", { ...junk, ...index }))).readFloat32("a")).toEqual(f32([1, 2]));
});
