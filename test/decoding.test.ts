import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { i32 } from "../src/core/tensor.js";
import { packTexts } from "../src/data/collate.js";
import { methodNamed, methods } from "../src/methods/index.js";
import type { Attachment } from "../src/methods/method.js";
import { attach, forwardGraph } from "../src/programs/adapted-model.js";
import { withoutAdapter } from "../src/programs/adapter.js";
import type { BaseModel } from "../src/programs/base-model.js";
import { continuationGraph, type Decoding, decoder } from "../src/programs/decode.js";
import { initialParams } from "../src/programs/initial-params.js";
import { packingOf } from "../src/programs/limits.js";
import { loadProgram, type Params } from "../src/programs/program.js";
import { nodeRuntime } from "../src/runtime/node.js";
import type { Runtime } from "../src/runtime/session.js";
import { textClassification } from "../src/tasks/text-classification.js";
import { textGeneration } from "../src/tasks/text-generation.js";
import { moved, noise } from "./model-gradcheck.fixture.js";
import { openTinyModel, type TinyFamily } from "./tiny-model.fixture.js";

const families: readonly TinyFamily[] = ["gpt2", "llama", "mistral", "qwen2", "qwen3"];

/** Methods with configs that change what a pass over a few tokens must get right. A method that is not here has its default. */
const configs: Readonly<Record<string, readonly object[]>> = {
  lora: [{ target_modules: "all-linear", init_lora_weights: false }, { use_dora: true }],
  vera: [{ r: 4, d_initial: 1, init_weights: false }],
  bottleneck: [
    { reduction_factor: 4 },
    { is_parallel: true, reduction_factor: 4, scaling: 4, original_ln_before: false },
    { reduction_factor: 4, use_gating: true },
  ],
  "prefix-tuning": [{ num_virtual_tokens: 3 }, { num_virtual_tokens: 2, prefix_projection: true, encoder_hidden_size: 6 }],
  "prompt-tuning": [{ num_virtual_tokens: 3 }],
  "p-tuning": [{ num_virtual_tokens: 3 }],
};
/** BitFit has no biases to train there, and a head is not trained for text generation. */
const without = (method: string, family: TinyFamily): boolean => method === "head" || (method === "bitfit" && ["mistral"].includes(family));

const cells = families.flatMap((family) => [
  { family, name: "no method", fields: {} },
  ...methods
    .filter(({ name }) => !without(name, family))
    .flatMap(({ name }) => (configs[name] ?? [{}]).map((fields) => ({ family, name, fields }))),
]);

/** Tokens given to three texts in each pass: the second text ends after two passes, the first gets several tokens at once later on. */
const passes: readonly (readonly (readonly number[])[])[] = [
  [[5, 9, 14, 77, 6], [40], [7, 8, 9, 10, 11, 12, 13, 200, 3]],
  [[21], [22], [23]],
  [[31], [], [33]],
  [[41, 42, 43], [], [44]],
  [[], [], [51]],
];

describe.each(families)("%s, with its keys and values kept,", (family) => {
  let runtime: Runtime;
  let model: BaseModel;
  beforeAll(async () => {
    runtime = nodeRuntime({ threads: 1 });
    model = await openTinyModel(runtime, { family });
  });
  afterAll(() => runtime.close());

  it.each(cells.filter((cell) => cell.family === family))("$name $fields: gives the logits of whole texts", async ({ name, fields }) => {
    const head = withoutAdapter(model, textGeneration);
    const method = name === "no method" ? undefined : methodNamed(name);
    const attachments: readonly Attachment[] =
      method === undefined ? [] : [attach(model, head, method, method.config.parse(fields), "user")];
    const whole = forwardGraph(model, head, attachments);
    const start = await initialParams(model, whole, 0);
    const params: Params = new Map([...start].map(([path, tensor]) => [path, moved(tensor, noise(tensor, "off", path), 0.1)] as const));
    const reference = await loadProgram(model, whole);
    const expected = async (ids: readonly number[]): Promise<Float32Array> => {
      const packed = packTexts([{ ids: Int32Array.from(ids), typeIds: new Int32Array(ids.length) }], packingOf(model, attachments));
      const { logits } = await reference.run({ batch: { ...packed.feeds, lossRows: i32(packed.summaryRows) }, params });
      return logits!.data as Float32Array;
    };
    const graph = continuationGraph(model, head, attachments);
    const program = await loadProgram(model, graph, "decoding");
    const ready = decoder(model, attachments, graph, { run: program.run, load: async () => {} }, params);
    const decoding = await ready.start(3);
    const alone = await ready.start(1);
    const texts: number[][] = [[], [], []];
    for (const tokens of passes) {
      const got = await decoding.next(tokens);
      for (const [b, ids] of tokens.entries()) {
        texts[b]!.push(...ids);
        if (ids.length === 0) expect(got[b]).toBeUndefined();
        else expect(farthest(got[b]!, await expected(texts[b]!)), `text ${b}`).toBeLessThan(1e-5);
      }
      expect(farthest((await alone.next([tokens[2]!]))[0]!, got[2]!)).toBeLessThan(1e-5);
    }
    await Promise.all([decoding.dispose(), alone.dispose(), program.dispose(), reference.dispose()]);
  });
});

describe("a decoder", () => {
  let runtime: Runtime;
  beforeAll(() => {
    runtime = nodeRuntime({ threads: 1 });
  });
  afterAll(() => runtime.close());

  it("is refused for models and adapters that write no texts", async () => {
    const bert = await openTinyModel(runtime, { labels: 3 });
    expect(() => continuationGraph(bert, withoutAdapter(bert, textClassification), [])).toThrow(/a bert model writes no texts/);
    const llama = await openTinyModel(runtime, { family: "llama", labels: 3 });
    expect(() => continuationGraph(llama, withoutAdapter(llama, textClassification), [])).toThrow(
      /the adapter is for text-classification; it writes no texts/,
    );
  });

  it("whose texts are given back reads no more", async () => {
    const model = await openTinyModel(runtime, { family: "llama" });
    const graph = continuationGraph(model, withoutAdapter(model, textGeneration), []);
    const { run } = await loadProgram(model, graph, "decoding");
    const decoding: Decoding = await decoder(model, [], graph, { run, load: async () => {} }, new Map()).start(1);
    await decoding.next([[5]]);
    await decoding.dispose();
    await expect(decoding.next([[6]])).rejects.toThrow(/the held tensors were given back/);
  });
});

function farthest(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}
