import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
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

test("languages/transfer.mjs trains languages and a task, and exchanges the language", { timeout: 120_000 }, async () => {
  const texts = (end: string): string =>
    Array.from({ length: 24 }, (_, i) => `${JSON.stringify({ text: `the card ${end}`, label: i % 2 === 0 ? "a" : "b" })}\n`).join("");
  for (const [language, end] of Object.entries({ here: "is new", there: "new is" })) {
    await mkdir(join(folder, "data", language), { recursive: true });
    for (const split of ["train", "validation", "test"]) await writeFile(join(folder, "data", language, `${split}.jsonl`), texts(end));
  }
  const options = [
    "--data",
    "data",
    "--source",
    "here",
    "--targets",
    "there",
    "--language-epochs",
    "1",
    "--task-epochs",
    "1",
    "--max-length",
    "30",
  ];
  const printed = await example("languages/transfer.mjs", "--model", model, ...options);
  const rows = printed
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(rows.map(({ language }) => language)).toEqual(["here", "there"]);
  for (const row of rows)
    expect(Object.keys(row)).toEqual(["seed", "language", "head_only", "task_adapter", "stack_not_swapped", "stack_swapped"]);
  expect(rows[0]!.stack_swapped).toBe(rows[0]!.stack_not_swapped);
  expect(await readdir(join(folder, "languages"))).toEqual(["alone-0", "head-0", "language-here", "language-there", "stack-0"]);
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
  const scripts = (await readdir(examples, { recursive: true })).filter((name) => name.endsWith(".mjs"));
  expect(scripts.sort()).toEqual([
    "custom-loop.mjs",
    "languages/transfer.mjs",
    "own-method.mjs",
    "predict.mjs",
    "switching.mjs",
    "train.mjs",
  ]);
});
