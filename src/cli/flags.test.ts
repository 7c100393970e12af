import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type * as z from "zod";
import { lora } from "../methods/lora.js";
import { train } from "../node/train.js";
import { type TrainJobOptions, trainJobOptions } from "../node/train-options.js";
import { readSettings } from "./flags.js";
import { peft } from "./run-peft.fixture.js";
import { verbs } from "./verbs.js";

vi.mock("../node/train.js");

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-flags-"));
});
afterAll(() => rm(folder, { recursive: true }));
beforeEach(() => {
  vi.mocked(train).mockReset();
  vi.mocked(train).mockImplementation(async function* () {
    yield* [];
    return { finished: true, path: "", metrics: {}, adapter: undefined as never };
  });
});

/** What the library was given. */
async function received(args: readonly string[]): Promise<Readonly<Record<string, unknown>>> {
  const run = await peft(["train", ...args]);
  expect(run.stderr).toBe("");
  expect(run.code).toBe(0);
  return vi.mocked(train).mock.lastCall![0] as unknown as Readonly<Record<string, unknown>>;
}

async function yaml(name: string, text: string): Promise<string> {
  await writeFile(join(folder, name), text);
  return join(folder, name);
}

const needed = ["--data", "d.jsonl", "--out", "o"];

/** For each flag what is typed and what the library must receive; none is a default. A new option must be added here. */
const walk: { readonly [K in keyof Required<TrainJobOptions>]: readonly [typed: readonly string[], value: unknown] } = {
  model: [["org/name@main"], "org/name@main"],
  data: [["rows.csv"], "rows.csv"],
  eval: [["test.csv"], "test.csv"],
  adapter: [["en=adapters/en", "--adapter", "jv=adapters/jv"], { en: "adapters/en", jv: "adapters/jv" }],
  group: [["dialect"], "dialect"],
  map: [["text=utterance,label=intent"], { text: "utterance", label: "intent" }],
  task: [["text-classification"], "text-classification"],
  method: [["lora"], "lora"],
  set: [["r=16,lora_alpha=32"], { r: 16, lora_alpha: 32 }],
  out: [["folder"], "folder"],
  epochs: [["0.5"], 0.5],
  min_steps: [["7"], 7],
  max_steps: [["7"], 7],
  batch_size: [["4"], 4],
  max_tokens_per_batch: [["512"], 512],
  recompute: [[], true],
  gradient_accumulation_steps: [["2"], 2],
  learning_rate: [["5e-4"], 5e-4],
  weight_decay: [["0.01"], 0.01],
  adam_beta1: [["0.8"], 0.8],
  adam_beta2: [["0.99"], 0.99],
  adam_epsilon: [["1e-6"], 1e-6],
  lr_scheduler_type: [["cosine"], "cosine"],
  warmup_ratio: [["0.2"], 0.2],
  max_grad_norm: [["0"], 0],
  max_length: [["64"], 64],
  train_on_prompt: [[], true],
  last_turn_only: [[], true],
  on_truncation: [["error"], "error"],
  eval_steps: [["10"], 10],
  eval_on_start: [[], true],
  save_steps: [["20"], 20],
  early_stopping_patience: [["3"], 3],
  group_by_length: [[], false],
  dropout: [["0.1"], 0.1],
  base_dtype: [["q8"], "q8"],
  seed: [["11"], 11],
  threads: [["1"], 1],
  resume: [["out/checkpoint-3"], "out/checkpoint-3"],
};

describe("every flag of train reaches the library", () => {
  test.each(Object.entries(walk))("%s", async (key, [typed, value]) => {
    const schema = trainJobOptions.shape[key as keyof typeof trainJobOptions.shape] as z.ZodType;
    if (key !== "method") expect(schema.safeParse(undefined).data).not.toEqual(value); // there is one method so far
    const flag = `--${value === false ? "no-" : ""}${key.replaceAll("_", "-")}`;
    const others = needed.flatMap((word, i) => (i % 2 === 0 && word !== flag ? [word, needed[i + 1]!] : []));
    expect((await received([...others, flag, ...typed]))[key]).toEqual(value);
  });

  test("and from the YAML file under the same names", async () => {
    const file = await yaml("all.yaml", JSON.stringify(Object.fromEntries(Object.entries(walk).map(([key, [, value]]) => [key, value]))));
    const got = await received(["--config", file]);
    for (const [key, [, value]] of Object.entries(walk)) expect([key, got[key]]).toEqual([key, value]);
  });

  test("left out, all are the schema's defaults", async () => {
    const { signal: _, onProgress: __, ...got } = await received(needed);
    expect(got).toEqual(trainJobOptions.parse({ data: "d.jsonl", out: "o" }));
  });

  test("a flag without a value where one may stand", async () => {
    expect((await received([...needed, "--resume"])).resume).toBe(true);
    expect((await received([...needed, "--dropout", "model"])).dropout).toBe("model");
  });
});

describe("--config", () => {
  test("a flag wins over the file, and settings are joined key by key", async () => {
    const file = await yaml("some.yaml", "data: a.jsonl\nout: o\nepochs: 5\nseed: 2\nset:\n  r: 4\n  lora_alpha: 16\n");
    const got = await received(["--config", file, "--epochs", "2", "--set", "r=16"]);
    expect(got).toMatchObject({ data: "a.jsonl", epochs: 2, seed: 2, set: { r: 16, lora_alpha: 16 } });
  });

  test("unknown keys are refused, all of them, with the nearest known one", async () => {
    const run = await peft(["train", "--config", await yaml("bad.yaml", "data: a\nout: o\nepoch: 2\nbatchsize: 3\n")]);
    expect(run.code).toBe(2);
    expect(run.stderr).toContain('"epoch", "batchsize" are not known');
    expect(run.stderr).toContain('did you mean "epochs", "batch_size"?');
    expect(train).not.toHaveBeenCalled();
  });

  test("a missing file", async () => {
    const run = await peft(["train", "--config", join(folder, "none.yaml")]);
    expect(run.code).toBe(2);
    expect(run.stderr).toMatch(/cannot read .*none\.yaml: ENOENT/);
  });
});

describe("readSettings", () => {
  const read = (settings: Readonly<Record<string, string>>): unknown => readSettings(settings, lora.config.shape);

  test.each([
    [{ r: "16" }, { r: 16 }],
    [{ target_modules: "query,value" }, { target_modules: ["query", "value"] }],
    [{ target_modules: "query" }, { target_modules: ["query"] }],
    [{ target_modules: '["query"]' }, { target_modules: ["query"] }],
    [{ target_modules: "all-linear" }, { target_modules: "all-linear" }],
    [{ target_modules: ".*(query|key)" }, { target_modules: ".*(query|key)" }],
    [{ target_modules: "null" }, { target_modules: null }],
    [{ use_rslora: "true" }, { use_rslora: true }],
    [{ bias: "lora_only" }, { bias: "lora_only" }],
    [{ layers_to_transform: "[0,1]" }, { layers_to_transform: [0, 1] }],
    [{ rank_pattern: '{"query":4}' }, { rank_pattern: { query: 4 } }],
    [
      { r: "many", strange: "1" },
      { r: "many", strange: "1" },
    ],
  ])("%o", (settings, expected) => {
    expect(read(settings)).toEqual(expected);
  });

  test("values from a YAML file stay as they are", () => {
    expect(readSettings({ r: 4, target_modules: ["key"] }, lora.config.shape)).toEqual({ r: 4, target_modules: ["key"] });
  });
});

test("every flag of every verb has a help text", () => {
  for (const verb of verbs)
    for (const [key, schema] of Object.entries(verb.flags))
      expect([verb.name, key, (schema.description ?? "").length > 5]).toEqual([verb.name, key, true]);
});

test("help says names, defaults and an example", async () => {
  const run = await peft(["train", "--help"]);
  expect(run.code).toBe(0);
  for (const key of Object.keys(trainJobOptions.shape)) expect(run.stdout).toMatch(new RegExp(`--(no-)?${key.replaceAll("_", "-")} `));
  expect(run.stdout).toMatch(/--seed <number> [^-]*\(default: 0\)/);
  expect(run.stdout).toMatch(/--no-group-by-length +do not put rows/);
  expect(run.stdout).toContain("peft train --data rows.jsonl --out my-adapter");
});
