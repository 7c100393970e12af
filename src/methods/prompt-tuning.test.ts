import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { openTinyModel } from "../../test/tiny-model.fixture.js";
import { parseOptions } from "../core/options.js";
import { ConfigError } from "../errors.js";
import { memoryFiles } from "../io/memory-files.js";
import { attach, forwardGraph, type TaskHead } from "../programs/adapted-model.js";
import { loadAdapter } from "../programs/adapter.js";
import { adapterFiles } from "../programs/adapter-files.js";
import type { BaseModel } from "../programs/base-model.js";
import { initialParams } from "../programs/initial-params.js";
import { nodeRuntime } from "../runtime/node.js";
import { textClassification } from "../tasks/text-classification.js";
import { promptTuning } from "./prompt-tuning.js";

const head: TaskHead = { task: textClassification, target: { kind: "classes", labels: ["LABEL_0", "LABEL_1"] } };
const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
let table: Float32Array;
beforeAll(async () => {
  model = await openTinyModel(runtime);
  table = (await model.read("bert.embeddings.word_embeddings.weight", [282, 16])).data;
});
afterAll(() => runtime.close());

const configOf = (fields: object) => parseOptions("prompt-tuning option", promptTuning.config, fields);

async function started(fields: object, seed = 0) {
  const attachment = attach(model, head, promptTuning, configOf(fields), "user");
  return { head, attachment, params: await initialParams(model, forwardGraph(model, head, [attachment]), seed) };
}

/** The rows of the vocabulary that a prompt consists of; -1 for one that is none. */
async function words(fields: object, seed = 0): Promise<readonly number[]> {
  const { data, shape } = (await started(fields, seed)).params.get("prompt_embeddings")!;
  const rows = Array.from({ length: shape[0]! }, (_, i) => [...data.subarray(16 * i, 16 * i + 16)].join());
  const known = new Map(Array.from({ length: 282 }, (_, i) => [[...table.subarray(16 * i, 16 * i + 16)].join(), i]));
  return rows.map((row) => known.get(row) ?? -1);
}

const text = { prompt_tuning_init: "TEXT", prompt_tuning_init_text: "how many hats" };

describe("a prompt starts", () => {
  it("as a text with its special tokens, repeated or cut to fit, as in PEFT", async () => {
    const ids = [...model.tokenizer.encode("how many hats").ids];
    expect(ids[0]).toBe(model.tokenizer.clsId);
    expect(await words({ ...text, num_virtual_tokens: 2 * ids.length + 1 })).toEqual([...ids, ...ids, ids[0]]);
    expect(await words({ ...text, num_virtual_tokens: 2 })).toEqual(ids.slice(0, 2));
  });

  it("as random words from the seed", async () => {
    const fields = { prompt_tuning_init: "SAMPLE_VOCAB", num_virtual_tokens: 12 };
    const sampled = await words(fields);
    expect(sampled).not.toContain(-1);
    expect(new Set(sampled).size).toBeGreaterThan(6);
    expect(await words(fields)).toEqual(sampled);
    expect(await words(fields, 1)).not.toEqual(sampled);
  });

  it("as noise", async () => {
    expect(await words({ num_virtual_tokens: 3 })).toEqual([-1, -1, -1]);
  });
});

describe("the config", () => {
  it("has a text exactly where it is needed", () => {
    const fault = /prompt_tuning_init=TEXT and prompt_tuning_init_text need each other/;
    expect(() => configOf({ prompt_tuning_init: "TEXT" })).toThrow(fault);
    expect(() => configOf({ prompt_tuning_init_text: "a" })).toThrow(fault);
  });

  it("refuses another tokenizer than the base model's by name", async () => {
    const error = await failure(() => started({ ...text, tokenizer_name_or_path: "org/other" }));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain("org/other");
    await expect(started({ ...text, tokenizer_name_or_path: "tiny" })).resolves.toBeDefined();
  });

  it("is published as PEFT has it, and read back", async () => {
    const files = await adapterFiles(model, await started(text));
    const json = JSON.parse(new TextDecoder().decode(files["adapter_config.json"])) as object;
    expect(json).toMatchObject({ ...text, tokenizer_name_or_path: "tiny" });
    const other = { ...json, tokenizer_name_or_path: "org/moved", tokenizer_kwargs: { use_fast: true } };
    const moved = { ...files, "adapter_config.json": new TextEncoder().encode(JSON.stringify(other)) };
    expect((await loadAdapter(model, memoryFiles("adapter", moved))).attachment.config).toMatchObject(text);
  });
});
