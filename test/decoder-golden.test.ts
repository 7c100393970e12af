import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { parseJsonl } from "../src/data/rows.js";
import { memoryFiles } from "../src/io/memory-files.js";
import { withoutAdapter } from "../src/programs/adapter.js";
import { openBaseModel } from "../src/programs/base-model.js";
import { predictor } from "../src/programs/pipeline.js";
import { nodeRuntime } from "../src/runtime/node.js";
import { textGeneration } from "../src/tasks/text-generation.js";
import { differences } from "./golden.fixture.js";

const golden = fileURLToPath(new URL("golden/", import.meta.url));
const names = ["llama-biases-llama3", "llama-linear", "llama-yarn", "mistral-window", "qwen2-window", "qwen3"];
const runtime = nodeRuntime({ threads: 1 });
afterAll(() => runtime.close());

it("all decoders are tried", () => {
  expect(readdirSync(join(golden, "decoders")).sort()).toEqual(names);
});

it.each(names)("%s gives transformers' logits, and completions as likely as there", async (name) => {
  const bytes = (...path: string[]): Uint8Array<ArrayBuffer> => Uint8Array.from(readFileSync(join(golden, ...path)));
  const tokenizer = ["tokenizer.json", "tokenizer_config.json"].map((file) => [file, bytes("peft", "bases", "llama", file)] as const);
  const own = ["config.json", "model.safetensors"].map((file) => [file, bytes("decoders", name, file)] as const);
  const model = await openBaseModel(memoryFiles(name, Object.fromEntries([...tokenizer, ...own])), { id: name, runtime });
  const head = withoutAdapter(model, textGeneration);
  const ready = predictor(model, head);
  const input = join(golden, "peft/cases/llama-lora-qv/input.jsonl");
  const rows = parseJsonl(readFileSync(input, "utf8"), "input.jsonl");
  const wanted = parseJsonl(readFileSync(join(golden, "decoders", name, "expected.jsonl"), "utf8"), "expected.jsonl").rows;
  const examples = ready.encode(rows);
  const got = textGeneration.predict(await ready.run(examples, true), rows, head.target, true);
  const kept = textGeneration.predict(await ready.run(examples), rows, head.target);
  await ready.dispose();
  expect(differences(got, wanted, 2e-4)).toEqual([]);
  const short = got.map(({ logprob, tokens }) => ({ logprob, tokens }));
  expect(differences(kept, short, 1e-6)).toEqual([]);
});
