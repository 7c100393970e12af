import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { parseJsonl } from "../src/data/rows.js";
import { directory } from "../src/io/directory.js";
import { loadAdapter } from "../src/programs/adapter.js";
import { openBaseModel } from "../src/programs/base-model.js";
import { predictor } from "../src/programs/pipeline.js";
import { nodeRuntime } from "../src/runtime/node.js";
import { differences } from "./golden.fixture.js";

const own = fileURLToPath(new URL("golden/peft", import.meta.url));
/** Another set made by tools/golden/make_peft_random.py, if one is named. */
const golden = process.env.PEFT_CASES ?? own;
const names = readdirSync(join(golden, "cases")).sort();

/** case.json, as the Python script that made the case wrote it. */
interface Case {
  readonly base: string;
  readonly task: string;
  readonly tolerance: number;
}

const runtime = nodeRuntime({ threads: 1 });
afterAll(() => runtime.close());

it("has all golden cases", () => {
  const all = readdirSync(join(own, "cases")).sort();
  expect(all.filter((name) => name.startsWith("cell-"))).toHaveLength(197);
  expect(all.filter((name) => !name.startsWith("cell-"))).toEqual([
    "bert-bitfit",
    "bert-ia3",
    "bert-lora-bin",
    "bert-lora-dora",
    "bert-lora-pissa",
    "bert-lora-tables",
    "bert-prefix",
    "bert-prompt",
    "bert-ptuning",
    "bert-token-lora",
    "bert-token-prompt-text",
    "bert-vera",
    "bert-vera-drawn",
    "distilbert-lora",
    "distilbert-lora-bias",
    "distilbert-prompt",
    "distilbert-vera",
    "distilbert-vera-drawn",
    "gpt2-bitfit",
    "gpt2-dora",
    "gpt2-ia3",
    "gpt2-lora",
    "gpt2-lora-all",
    "gpt2-lora-tables",
    "gpt2-lora-wte",
    "gpt2-par_bn",
    "gpt2-prefix",
    "gpt2-prefix-projection",
    "gpt2-prompt",
    "gpt2-ptuning-lstm",
    "gpt2-seq_bn",
    "gpt2-tags-prompt",
    "gpt2-text-dora-wte",
    "gpt2-text-lora",
    "gpt2-vera",
    "llama-4-lora-embed-head",
    "llama-4-lora-saved",
    "llama-dora",
    "llama-ia3",
    "llama-lora-all",
    "llama-lora-embed",
    "llama-lora-lm_head",
    "llama-lora-qv",
    "llama-prefix",
    "llama-prompt",
    "llama-ptuning",
    "llama-seq_bn",
    "llama-tags-dora",
    "llama-text-prefix",
    "llama-text-prompt",
    "mistral-6-lora-all",
    "mistral-6-prefix",
    "mistral-6-prompt",
    "mistral-6-text-ia3",
    "mistral-6-vera-drawn",
    "qwen2-ia3",
    "qwen2-lora-all",
    "qwen2-prefix",
    "qwen3-3-lora-all",
    "qwen3-3-lora-head",
    "qwen3-3-prefix-projection",
    "qwen3-3-ptuning",
    "roberta-dora-tables",
    "roberta-ia3",
    "roberta-lora",
    "roberta-lora-saved",
    "roberta-prefix",
    "roberta-ptuning",
    "roberta-vera",
    "roberta-vera-drawn",
  ]);
});

describe("adapters of Python's libraries give here what they give there", () => {
  it.each(names)("%s", async (name) => {
    const folder = join(golden, "cases", name);
    const { base, task, tolerance } = JSON.parse(readFileSync(join(folder, "case.json"), "utf8")) as Case;
    const model = await openBaseModel(directory(join(golden, "bases", base)), { id: base, runtime });
    const adapter = await loadAdapter(model, directory(join(folder, "adapter")), task);
    const ready = predictor(model, adapter);
    const rows = parseJsonl(readFileSync(join(folder, "input.jsonl"), "utf8"), "input.jsonl");
    const wanted = parseJsonl(readFileSync(join(folder, "expected.jsonl"), "utf8"), "expected.jsonl").rows;
    const got = adapter.head.task.predict(await ready.run(ready.encode(rows), true), rows, adapter.head.target, true);
    await ready.dispose();
    expect(got.length).toBe(wanted.length);
    expect(differences(got, wanted, tolerance)).toEqual([]);
  });
});
