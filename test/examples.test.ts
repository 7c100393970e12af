import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
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

test("own-method.mjs defines a method, trains it and loads it again", { timeout: 60_000 }, async () => {
  const printed = await example("own-method.mjs", model, "own");
  const labels = 8;
  expect(printed).toContain(`${2 * 16 + labels * 16 + labels} trained numbers`); // a vector of 16 in each of two layers, and the head
  expect(printed).toMatch(/label: '[a-z_]+'/);
  expect(JSON.parse(await readFile(join(folder, "own", "adapter_config.json"), "utf8"))).toMatchObject({ peft_type: "BEFT" });
});

test("every example is run by a test", async () => {
  const scripts = (await readdir(examples)).filter((name) => name.endsWith(".mjs"));
  expect(scripts.sort()).toEqual(["custom-loop.mjs", "own-method.mjs", "predict.mjs", "train.mjs"]);
});
