import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { writeTinyModel } from "../../test/tiny-folder.fixture.js";
import { type Adapter, AttachError, adapterFiles, type BaseModel, FileError, methodNamed, taskNamed } from "../index.js";
import { attach, forwardGraph } from "../programs/adapted-model.js";
import { initialParams } from "../programs/initial-params.js";
import { loadModel } from "./load-model.js";
import { pipeline } from "./pipeline.js";

let folder = "";
let base = "";
let places: Record<string, string> = {};
let misfit = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-pipeline-"));
  base = await writeTinyModel(join(folder, "base"));
  const model = await loadModel(base, { threads: 1 });
  places = {
    legal: await write(model, "legal", "text-classification", ["civil", "penal"]),
    chat: await write(model, "chat", "text-classification", ["greeting", "question", "thanks"]),
    names: await write(model, "names", "token-classification", ["B-PER", "O"]),
  };
  await model.close();
  const wide = await loadModel(await writeTinyModel(join(folder, "wide"), { config: { hidden_size: 20 } }), { threads: 1 });
  misfit = await write(wide, "misfit", "text-classification", ["civil", "penal"]);
  await wide.close();
});

afterAll(() => rm(folder, { recursive: true }));

/** Writes a LoRA adapter with initial values to a folder. */
async function write(model: BaseModel, name: string, task: string, labels: readonly string[]): Promise<string> {
  const head = { task: taskNamed(task), target: { kind: "classes" as const, labels } };
  const lora = methodNamed("lora");
  const attachment = attach(model, head, lora, lora.config.parse({ r: 2 }), "user");
  const params = await initialParams(model, forwardGraph(model, head, [attachment]), name.length);
  const adapter: Adapter = { head, attachment, params };
  const files = { ...(await adapterFiles(model, adapter)), "training.json": new TextEncoder().encode(JSON.stringify({ task, labels })) };
  for (const [file, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name, file)), { recursive: true });
    await writeFile(join(folder, name, file), bytes);
  }
  return join(folder, name);
}

describe("a pipeline with several adapters", () => {
  it("switches between labels and tasks, by use and by call", async () => {
    const model = await pipeline({ model: base, adapters: places, threads: 1 });
    expect(model.adapters.map(({ name, task, labels }) => [name, task, labels?.length])).toEqual([
      ["legal", "text-classification", 2],
      ["chat", "text-classification", 3],
      ["names", "token-classification", 2],
    ]);
    expect(model.active).toBe(null);
    await expect(model("how many hats")).rejects.toThrow(/has no trained head/);
    model.use("legal");
    expect(model.active).toBe("legal");
    const legal = await model("how many hats");
    expect(["civil", "penal"]).toContain(legal.label);
    expect(["greeting", "question", "thanks"]).toContain((await model("how many hats", { adapter: "chat" })).label);
    const [named] = await model([{ tokens: ["how", "many"] }], { adapter: "names", logits: true });
    expect(named).toMatchObject({ tokens: ["how", "many"], tags: [expect.stringMatching(/B-PER|O/), expect.stringMatching(/B-PER|O/)] });
    expect(named!.logits).toHaveLength(2);
    expect(await model("how many hats")).toEqual(legal);
    await model.dispose();
  });

  it("loads and unloads while it is open", async () => {
    const model = await pipeline({ model: base, adapter: places.legal!, adapters: { chat: places.chat! }, threads: 1 });
    expect(model.active).toBe("default");
    const before = await model("add 12 hats");
    await model.load("names", places.names!);
    model.use("names");
    await model.unload("default");
    expect(model.adapters.map(({ name }) => name)).toEqual(["chat", "names"]);
    await expect(model.unload("names")).rejects.toThrow(/the adapter "names" is in use/);
    expect(() => model.use("default")).toThrow(/there is no adapter "default"; loaded: chat, names/);
    await model.load("default", places.legal!);
    expect(await model("add 12 hats", { adapter: "default" })).toEqual(before);
    await model.dispose();
    await expect(model("add 12 hats")).rejects.toThrow(/disposed of/);
  });

  it("goes on with the others when one does not fit the base", async () => {
    const model = await pipeline({ model: base, adapters: { legal: places.legal! }, threads: 1 });
    model.use("legal");
    const before = await model("add 12 hats");
    const error = await failure(() => model.load("misfit", misfit));
    expect(error).toBeInstanceOf(AttachError);
    expect(error.message).toContain(misfit);
    expect(error.message).toMatch(/lora_A\.weight: \[2,20\], expected \[2,16\]/);
    await expect(model.load("gone", join(folder, "gone"))).rejects.toThrow(FileError);
    expect(model.adapters.map(({ name }) => name)).toEqual(["legal"]);
    expect(await model("add 12 hats")).toEqual(before);
    await model.load("misfit", places.chat!);
    await model.dispose();
  });

  it("leaves nothing open when it cannot be made, and leaves open what it was given", async () => {
    await expect(pipeline({ model: base, adapters: { legal: places.legal!, misfit }, threads: 1 })).rejects.toThrow(AttachError);
    const loaded = await loadModel(base, { threads: 1 });
    await expect(pipeline({ model: loaded, adapters: { misfit } })).rejects.toThrow(AttachError);
    const model = await pipeline("text-classification", { model: loaded, adapters: some("legal", "chat") });
    expect((await model("add 12 hats", { adapter: "chat" })).label).toBeDefined();
    await expect(model.load("names", places.names!)).rejects.toThrow(/is for token-classification, not for text-classification/);
    await model.dispose();
    await loaded.close();
  });
});

function some(...names: string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, places[name]!]));
}
