import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { writeTinyModel } from "../../test/tiny-folder.fixture.js";
import { tinyRows } from "../../test/tiny-model.fixture.js";
import { type BadInput, expectRefusal } from "./bad-input.fixture.js";
import { peft } from "./run-peft.fixture.js";

let folder = "";
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-bad-adapter-"));
  await writeTinyModel(at("model"));
  await writeTinyModel(at("wider"), { config: { hidden_size: 24 } });
  await writeFile(
    at("rows.jsonl"),
    tinyRows(24)
      .map((row) => `${JSON.stringify(row)}\n`)
      .join(""),
  );
  const odd = async (name: string, file: string, json: unknown): Promise<void> => {
    await mkdir(at(name));
    await writeFile(join(at(name), file), JSON.stringify(json));
  };
  const children = ["../layers", "../lora"].map((child) => ({ type: "single", children: [child] }));
  await odd("escaping", "adapter_setup.json", { adapter_setup: { type: "Stack", children } });
  await odd("split", "adapter_setup.json", { adapter_setup: { type: "Split", children } });
  await odd("empty", "adapter_setup.json", {});
  await odd("lora-of-hub", "adapter_config.json", { model_type: "bert", name: "x", config: { architecture: "lora", r: 8 } });
  await odd("oft", "adapter_config.json", { peft_type: "OFT" });
  for (const [out, method] of [
    ["lora", "lora"],
    ["layers", "seq_bn"],
  ] as const) {
    const args = ["--model", at("model"), "--data", at("rows.jsonl"), "--max-steps", "1", "--method", method, "--out", at(out)];
    expect((await peft(["train", ...args])).code).toBe(0);
  }
});

afterAll(() => rm(folder, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

const train = "train --model {model} --out {out} --data {rows.jsonl}";
const evaluate = "evaluate --model {model} --data {rows.jsonl}";

const cases: readonly BadInput[] = [
  {
    what: "a frozen adapter that is not there",
    args: `${train} --method seq_bn --adapter en={nowhere}`,
    code: 1,
    error: /there is no folder .*nowhere/,
  },
  {
    what: "a frozen adapter that is a model",
    args: `${train} --method seq_bn --adapter en={wider}`,
    code: 1,
    error: /wider holds no adapter_config\.json: it is not an adapter/,
    hint: /give it with --model/,
  },
  {
    what: "a frozen adapter without a name",
    args: `${train} --method seq_bn --adapter {layers}`,
    code: 2,
    error: /--adapter .*layers": expected key=value/,
  },
  {
    what: "a frozen adapter whose name leads elsewhere",
    args: `${train} --method seq_bn --adapter ../en={layers}`,
    code: 1,
    error: /E_CONFIG\]: an adapter cannot be named "\.\.\/en"/,
    hint: /letters, digits/,
  },
  {
    what: "a frozen adapter with a broken adapter_setup.json",
    args: `${train} --method seq_bn --adapter en={empty}`,
    code: 1,
    error: /E_CONFIG\]: .*empty.adapter_setup\.json has no "adapter_setup"/,
  },
  {
    what: "a prefix on a frozen adapter",
    args: `${train} --method prefix --adapter en={layers}`,
    code: 1,
    error: /E_CONFIG\]: .*\n {2}task: prefix-tuning changes what attention reads/,
    hint: /adapter layers/,
  },
  {
    what: "LoRA on a frozen adapter layer",
    args: `${train} --adapter en={layers}`,
    code: 1,
    error: /E_CONFIG\]: .* must be adapter layers, not lora \(task\)/,
    hint: /--method seq_bn/,
  },
  {
    what: "adapter layers on LoRA",
    args: `${train} --method seq_bn --adapter en={lora}`,
    code: 1,
    error: /must be adapter layers, not lora \(en\)/,
  },
  {
    what: "a fusion of nothing",
    args: `${train} --method fuse`,
    code: 1,
    error: /E_CONFIG\]: fuse needs two adapters or more, not 0/,
    hint: /--adapter name=folder/,
  },
  {
    what: "a fusion of one adapter",
    args: `${train} --method fuse --adapter a={layers}`,
    code: 1,
    error: /fuse needs two adapters or more, not 1/,
  },
  {
    what: "a fusion on another base",
    args: "train --model {wider} --out {out} --data {rows.jsonl} --method fuse --adapter a={layers} --adapter b={layers}",
    code: 1,
    error: /E_ATTACH\]: the adapter .*layers does not fit this model; \d+ tensors differ:\n.*: \[1,16\], expected \[1,24\]/,
    hint: /it was trained on .*model/,
  },
  {
    what: "a field that adapter layers do not have",
    args: `${train} --method seq_bn --set r=8`,
    code: 1,
    error: /bottleneck option "r" is not known/,
    hint: /reduction_factor/,
  },
  {
    what: "a field that adapter layers do not train with",
    args: `${train} --method seq_bn --set stochastic_depth=0.1`,
    code: 1,
    error: /E_CONFIG\]: not supported in training:\n {2}stochastic_depth/,
  },
  {
    what: "a composition whose adapters lie elsewhere",
    args: `${evaluate} --adapter {escaping}`,
    code: 1,
    error: /escaping.adapter_setup\.json: this is no adapter's name: "\.\.\/layers"/,
    hint: /folder beside/,
  },
  {
    what: "a composition of a kind that is not supported",
    args: `${evaluate} --adapter {split}`,
    code: 1,
    error: /E_CONFIG\]: composition "Split" is not supported/,
    hint: /Stack, Average, Fuse/,
  },
  {
    what: "another kind of adapter in AdapterHub's format",
    args: `${evaluate} --adapter {lora-of-hub}`,
    code: 1,
    error: /architecture "lora" is not supported in AdapterHub's format/,
    hint: /PEFT's format/,
  },
  {
    what: "an adapter type that is not supported",
    args: `${evaluate} --adapter {oft}`,
    code: 1,
    error: /E_CONFIG\]: peft_type "OFT" is not supported/,
    hint: /LORA, VERA, IA3/,
  },
  {
    what: "an adapter layer of another base",
    args: "evaluate --model {wider} --data {rows.jsonl} --adapter {layers}",
    code: 1,
    error: /E_ATTACH\]: the adapter .* does not fit this model; \d+ tensors differ:/,
    hint: /it was trained on .*model/,
  },
];

test.each(cases)("$what ends in a clear error and leaves nothing behind", (input) => expectRefusal(folder, input));
