import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { directory } from "../src/io/directory.js";
import { memoryFiles } from "../src/io/memory-files.js";
import { loadAdapter, withoutAdapter } from "../src/programs/adapter.js";
import { adapterFiles } from "../src/programs/adapter-files.js";
import { type BaseModel, openBaseModel } from "../src/programs/base-model.js";
import { predictor } from "../src/programs/pipeline.js";
import { nodeRuntime } from "../src/runtime/node.js";
import { fillMask } from "../src/tasks/fill-mask.js";
import type { Example } from "../src/tasks/task.js";
import { jsonBytes, overlay } from "./tiny-model.fixture.js";

const golden = fileURLToPath(new URL("golden/masked/", import.meta.url));
const names = readdirSync(golden);
const runtime = nodeRuntime({ threads: 1 });
afterAll(() => runtime.close());

/** expected.json, as the Python scripts wrote it. */
interface Case {
  readonly rows: readonly { readonly ids: number[]; readonly masks: number[]; readonly labels: number[]; readonly logits: number[][] }[];
  readonly loss: number;
}

/** The cases have no tokenizer: their rows are ids. */
const tokenizer = jsonBytes({ model: { type: "WordPiece", unk_token: "[UNK]", vocab: { "[UNK]": 0 } } });

function open(name: string): Promise<BaseModel> {
  const files = directory(join(golden, name.startsWith("hub-") ? "bert" : name));
  return openBaseModel(overlay(files, { "tokenizer.json": tokenizer }), { id: name, runtime });
}

/** The largest gap between logits at masks, and the loss. */
async function compare(model: BaseModel, adapted: Parameters<typeof predictor>[1], { rows }: Case) {
  const ready = predictor(model, adapted);
  const examples = rows.map(
    ({ ids, masks, labels }): Example => ({
      ids: Int32Array.from(ids),
      typeIds: new Int32Array(ids.length),
      reads: masks,
      labels,
      truncated: false,
    }),
  );
  const whole = await ready.run(examples, true);
  const { loss } = fillMask.evaluate(await ready.run(examples), examples, ready.head.target);
  await ready.dispose();
  const gaps = rows.map(({ logits }, i) => {
    const flat = logits.flat();
    expect(whole[i]!.length).toBe(flat.length);
    return Math.max(...flat.map((value, j) => Math.abs(value - whole[i]![j]!)));
  });
  return { gap: Math.max(...gaps), loss };
}

it("has all golden cases", () => {
  expect(names).toEqual([
    ...["bert", "bert-lora", "bert-relu", "bert-untied", "distilbert"],
    ...["hub-head-layers", "hub-seq_bn", "hub-seq_bn_inv", "hub-stack", "roberta"],
  ]);
});

describe("masked language models give here what they give in Python", () => {
  it.each(names)("%s", async (name) => {
    const expected = JSON.parse(readFileSync(join(golden, name, "expected.json"), "utf8")) as Case;
    const model = await open(name);
    const place = join(golden, name, "adapter");
    const adapted = existsSync(place) ? await loadAdapter(model, directory(place)) : withoutAdapter(model, fillMask);
    const { gap, loss } = await compare(model, adapted, expected);
    expect(gap).toBeLessThan(2e-4);
    expect(Math.abs(loss - expected.loss)).toBeLessThan(2e-5);
  });

  it.each(names.filter((name) => name.startsWith("hub-")))("%s, written and read again", async (name) => {
    const expected = JSON.parse(readFileSync(join(golden, name, "expected.json"), "utf8")) as Case;
    const model = await open(name);
    const adapter = await loadAdapter(model, directory(join(golden, name, "adapter")));
    const again = await loadAdapter(model, memoryFiles("written", await adapterFiles(model, adapter)));
    expect((await compare(model, again, expected)).gap).toBeLessThan(2e-4);
  });
});
