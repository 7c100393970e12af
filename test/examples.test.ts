import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeTinyModel } from "./tiny-folder.fixture.js";

const examples = fileURLToPath(new URL("../examples", import.meta.url));
let folder = "";
let model = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-examples-"));
  model = await writeTinyModel(join(folder, "model"));
});

afterAll(() => rm(folder, { recursive: true }));

/** Runs an example against the built package, as a user would; gives what it printed. */
async function example(name: string, ...args: string[]): Promise<string> {
  return (await promisify(execFile)(process.execPath, [join(examples, name), ...args], { cwd: folder })).stdout;
}

test("train.mjs, then predict.mjs with its adapter", { timeout: 60_000 }, async () => {
  const printed = await example("train.mjs", model, "adapter");
  expect(printed).toMatch(/^step 10: loss \d\.\d{3}$/m);
  expect(printed).toMatch(/^after step 30: accuracy 0\.\d{3}$/m);
  expect(await readdir(join(folder, "adapter"))).toContain("adapter_model.safetensors");
  expect(await example("predict.mjs", model, "adapter", "where is it?")).toMatch(/^[a-z_]+ \(0\.\d\d\): where is it\?$/m);
});

test("custom-loop.mjs learns to tell two kinds of row apart", { timeout: 60_000 }, async () => {
  const printed = await example("custom-loop.mjs", model);
  expect(printed).toMatch(/stopped by the rule/);
  expect(printed).toMatch(/label: 'price'/);
  expect(printed).toMatch(/^adapter_model\.safetensors: \d+ bytes$/m);
});

test("switching.mjs with an adapter under two names", { timeout: 60_000 }, async () => {
  await example("train.mjs", model, "switched");
  const printed = await example("switching.mjs", model, "one=switched", "two=switched");
  expect(printed).toMatch(/^one: lora, 8 labels$/m);
  const [one, two] = ["one", "two"].map((name) => new RegExp(`^${name} in use: ([a-z_]+)$`, "m").exec(printed)?.[1]);
  expect(printed).toContain(`at the same time: ${one}, ${two}`);
  expect(printed).toMatch(/^left: two$/m);
});

test("every example is run by a test", async () => {
  const scripts = (await readdir(examples)).filter((name) => name.endsWith(".mjs"));
  expect(scripts.sort()).toEqual(["custom-loop.mjs", "predict.mjs", "switching.mjs", "train.mjs"]);
});
