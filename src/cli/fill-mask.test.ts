import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { writeTinyModel } from "../../test/tiny-folder.fixture.js";
import { tinyRows } from "../../test/tiny-model.fixture.js";
import { directory } from "../io/directory.js";
import { loadAdapter, loadModel } from "../node/load-model.js";
import { loadAdapter as loadAdapterFiles } from "../programs/adapter.js";
import { exchange } from "../programs/compose.js";
import { predictor } from "../programs/pipeline.js";
import { peft } from "./run-peft.fixture.js";

let folder = "";
const at = (name: string): string => join(folder, name);
const model = (): string[] => ["--model", at("model")];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-mask-"));
  vi.stubEnv("HF_HOME", at("cache"));
  await writeTinyModel(at("model"));
  const lines = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");
  await writeFile(at("texts.jsonl"), lines(tinyRows(24).map(({ text }) => ({ text }))));
  await writeFile(at("rows.jsonl"), lines(tinyRows(24)));
  await writeFile(at("masked.jsonl"), lines([{ text: "my card is new" }, { text: "the [MASK] card" }]));
});

afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

test("a language adapter by masked language modelling, then a task on top of it, then another language below", async () => {
  const mlm = ["train", ...model(), "--task", "fill-mask", "--method", "seq_bn_inv", "--set", "reduction_factor=4", "--max-steps", "2"];
  for (const [name, seed] of Object.entries({ en: "0", jv: "1" })) {
    const run = await peft([...mlm, "--data", at("texts.jsonl"), "--out", at(name), "--seed", seed, "--json"]);
    expect(run.code).toBe(0);
    expect(run.json()[0]).toMatchObject({ event: "start", task: "fill-mask", labels: null, train_rows: 22, eval_rows: 2 });
    expect(Object.keys(run.json().at(-1)!.metrics as object)).toEqual(["perplexity", "accuracy"]);
    expect(await readdir(at(name))).toEqual(expect.arrayContaining(["adapter.safetensors", "model_head.safetensors"]));
  }
  const run = await peft([
    ...["train", ...model(), "--data", at("rows.jsonl"), "--method", "seq_bn", "--set", "reduction_factor=4"],
    ...["--adapter", `en=${at("en")}`, "--max-steps", "2", "--out", at("stack"), "--json"],
  ]);
  expect([run.code, run.json()[0]!.task]).toEqual([0, "text-classification"]);

  const loaded = await loadModel(at("model"), { threads: 1 });
  const stack = await loadAdapter(loaded, at("stack"));
  const other = await loadAdapter(loaded, at("jv"));
  const swapped = exchange(loaded, stack, "en", { name: "jv", adapter: other });
  expect(swapped.attachment.children.map(({ name }) => name)).toEqual(["jv", "task"]);
  // By hand: the other language's files in the place of the first one's.
  const files = directory(at("stack"));
  const inner = directory(at("jv"));
  const exchanged = {
    origin: "exchanged",
    size: (name: string) => (name.startsWith("en/") ? inner.size(name.slice(3)) : files.size(name)),
    read: (name: string, start?: number, end?: number) =>
      name.startsWith("en/") ? inner.read(name.slice(3), start, end) : files.read(name, start, end),
  };
  const outputs = [];
  for (const adapter of [stack, swapped, await loadAdapterFiles(loaded, exchanged)]) {
    const ready = predictor(loaded, adapter);
    outputs.push(Array.from((await ready.run(ready.encode({ rows: [{ text: "my card" }], origin: "x", where: String })))[0]!));
    await ready.dispose();
  }
  expect(outputs[1]).toEqual(outputs[2]);
  expect(outputs[1]).not.toEqual(outputs[0]);
  expect(() => exchange(loaded, stack, "id", { name: "jv", adapter: other })).toThrow(/there is no adapter "id" to exchange/);
  await loaded.close();
});

test("predict fills masks in, and wants one in each row", async () => {
  const adapter = [...model(), "--adapter", at("en")];
  const run = await peft(["predict", ...adapter, "the [MASK] was hard to [MASK]", "--json"]);
  const [row] = run.json() as unknown as [{ text: string; masks: { token: string; score: number }[][] }];
  expect(row.text).toBe("the [MASK] was hard to [MASK]");
  expect(row.masks.map((mask) => mask.length)).toEqual([5, 5]);
  for (const mask of row.masks) expect(mask.map(({ score }) => score)).toEqual(mask.map(({ score }) => score).sort((a, b) => b - a));
  const refused = await peft(["predict", ...adapter, "--input", at("masked.jsonl")]);
  expect([refused.code, refused.stdout]).toEqual([1, ""]);
  expect(refused.stderr).toMatch(/masked\.jsonl:1: the text leaves nothing open to predict\nhint: put the model's mask token/);
});

test("evaluate draws the same masks each time, and wants whole texts", async () => {
  const evaluate = (data: string) => peft(["evaluate", ...model(), "--adapter", at("en"), "--data", at(data), "--json"]);
  const [first, second] = [await evaluate("texts.jsonl"), await evaluate("texts.jsonl")];
  const { seconds: _, ...scores } = first.json()[0]!;
  expect(second.json()[0]).toMatchObject(scores);
  expect(scores).toMatchObject({ task: "fill-mask", rows: 24 });
  const refused = await evaluate("masked.jsonl");
  expect(refused.stderr).toMatch(/masked\.jsonl:2: the text has masks in it, and nothing says what stood there/);
});

test("the task must be named: texts alone may be meant for others too", async () => {
  const run = await peft(["train", ...model(), "--data", at("texts.jsonl"), "--out", at("none")]);
  expect(run.code).toBe(1);
  expect(run.stderr).toMatch(/fit no task[\s\S]*--task fill-mask/);
});

test("data check and data preview know the task", async () => {
  const check = await peft(["data", "check", "--data", at("texts.jsonl"), "--task", "fill-mask", "--json"]);
  expect(check.json()[0]).toMatchObject({ task: "fill-mask", fault_count: 0 });
  const preview = await peft(["data", "preview", ...model(), "--data", at("texts.jsonl"), "--task", "fill-mask", "--json"]);
  const { shown } = preview.json()[0] as unknown as { shown: { tokens: { loss: boolean; special: boolean }[]; label_ids: number[] }[] };
  for (const { tokens, label_ids } of shown) expect(tokens.filter(({ loss }) => loss).length).toBe(label_ids.length);
  expect(shown[0]!.label_ids.length).toBeGreaterThan(0);
});
