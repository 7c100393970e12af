import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { maxAbsDifference } from "../src/core/matrix.js";
import { loadTokenizer } from "../src/data/tokenizer.js";
import { directory } from "../src/io/directory.js";
import { ggufModel } from "../src/io/gguf-model.js";
import { withoutAdapter } from "../src/programs/adapter.js";
import { openBaseModel } from "../src/programs/base-model.js";
import { predictor } from "../src/programs/pipeline.js";
import { nodeRuntime } from "../src/runtime/node.js";
import { textGeneration } from "../src/tasks/text-generation.js";

const golden = fileURLToPath(new URL("golden/gguf", import.meta.url));
const { texts, models } = JSON.parse(readFileSync(`${golden}/expected.json`, "utf8")) as {
  texts: readonly string[];
  models: Readonly<Record<string, { ids: readonly (readonly number[])[]; tokens: readonly number[]; logits: readonly number[] }>>;
};
const names = Object.keys(models);
const runtime = nodeRuntime({ threads: 1 });
afterAll(() => runtime.close());

// transformers leaves Llama 3's scaled positions out, so llama3.gguf has none.
it.each(names)("%s.gguf gives transformers' logits", async (name) => {
  const model = await openBaseModel(await ggufModel(directory(golden), `${name}.gguf`), { id: name, runtime });
  const ready = predictor(model, withoutAdapter(model, textGeneration));
  const { tokens, logits } = models[name]!;
  const example = {
    ids: Int32Array.from(tokens),
    typeIds: new Int32Array(tokens.length),
    labels: undefined,
    truncated: false,
    reads: [tokens.length - 1],
  };
  const [got] = await ready.run([example], true);
  await ready.dispose();
  expect(got).toHaveLength(logits.length);
  expect(maxAbsDifference(got!, Float32Array.from(logits))).toBeLessThan(2e-4);
});

it.each(names)("%s.gguf splits texts as the tokenizer that it was made from", async (name) => {
  const tokenizer = await loadTokenizer(await ggufModel(directory(golden), `${name}.gguf`));
  const got = texts.map((text) => [...tokenizer.encode(text).ids]);
  expect(Object.fromEntries(texts.map((text, i) => [text, got[i]]))).toEqual(
    Object.fromEntries(texts.map((text, i) => [text, models[name]!.ids[i]])),
  );
});
