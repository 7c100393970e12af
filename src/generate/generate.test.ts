import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { jsonBytes, openTinyModel, overlay, tinyModelFiles } from "../../test/tiny-model.fixture.js";
import { memoryFiles } from "../io/memory-files.js";
import { type BaseModel, openBaseModel } from "../programs/base-model.js";
import type { Decoder } from "../programs/decode.js";
import { Switchboard } from "../programs/switchboard.js";
import { nodeRuntime } from "../runtime/node.js";
import type { Runtime } from "../runtime/session.js";
import { generateAll } from "./batches.js";
import { type GeneratedText, generate, type Prompt, type TextPiece } from "./generate.js";
import type { GenerationOptions } from "./options.js";

const prompts = ["my card is new", "the film", "how many hats does he get in an hour"];

describe("generate", () => {
  let runtime: Runtime;
  let decoder: Decoder;
  let model: BaseModel;
  beforeAll(async () => {
    runtime = nodeRuntime({ threads: 1 });
    model = await openTinyModel(runtime, { family: "llama" });
    decoder = new Switchboard(model, { task: "text-generation" }).decoder();
  });
  afterAll(() => runtime.close());

  const all = async (
    given: readonly Prompt[],
    options: GenerationOptions = {},
    with_ = decoder,
    signal?: AbortSignal,
  ): Promise<{ readonly pieces: readonly TextPiece[]; readonly texts: readonly GeneratedText[] }> => {
    const loop = generate(with_, given, options, { signal });
    const pieces: TextPiece[] = [];
    for (;;) {
      const { value, done } = await loop.next();
      if (done === true) return { pieces, texts: value };
      pieces.push(value);
    }
  };

  it("gives each prompt of a batch what it gives it alone", async () => {
    const options = { max_new_tokens: 12 };
    const together = (await all(prompts, options)).texts;
    for (const [i, prompt] of prompts.entries()) expect((await all([prompt], options)).texts[0]).toEqual(together[i]);
    expect(new Set(together.map(({ text }) => text)).size).toBe(prompts.length);
    expect(together.map(({ ids, finish_reason }) => [ids.length <= 12, finish_reason === "stop" || ids.length === 12])).toEqual(
      prompts.map(() => [true, true]),
    );
  });

  it("yields pieces that make up the texts", async () => {
    const { pieces, texts } = await all(prompts, { max_new_tokens: 12 });
    for (const [i, { text }] of texts.entries())
      expect(pieces.flatMap(({ index, piece }) => (index === i ? [piece] : [])).join("")).toBe(text);
    expect(pieces.length).toBeGreaterThan(12);
  });

  it("draws by the seed and the prompt's place, whatever the batches", async () => {
    const options = { temperature: 1, seed: 3, max_new_tokens: 10 };
    const { texts } = await all(prompts, options);
    expect((await all(prompts, options)).texts).toEqual(texts);
    expect((await all(prompts, { ...options, seed: 4 })).texts).not.toEqual(texts);
    expect(await generateAll(decoder, prompts, options, { batchSize: 2 })).toEqual(texts);
    expect(await generateAll(decoder, prompts, options, { batchSize: 1 })).toEqual(texts);
    const [one, two] = (await all(["the film", "the film"], options)).texts;
    expect(one).not.toEqual(two);
  });

  it("ends at a stop string, which it leaves out", async () => {
    const { text } = (await all(["the film"], { max_new_tokens: 12 })).texts[0]!;
    const stop = text.slice(4, 7);
    const { texts } = await all(["the film"], { max_new_tokens: 12, stop });
    expect(texts[0]!.text).toBe(text.slice(0, text.indexOf(stop)));
    expect(texts[0]!.finish_reason).toBe("stop");
  });

  it("ends at the end tokens of generation_config.json, which count but are not in the text", async () => {
    const plain = (await all(["the film"], { max_new_tokens: 6 })).texts[0]!;
    const end = plain.ids[2]!;
    const files = overlay(memoryFiles("tiny", tinyModelFiles({ family: "llama" })), {
      "generation_config.json": jsonBytes({ eos_token_id: [300, end] }),
    });
    const other = await openBaseModel(files, { id: "tiny", runtime });
    const { texts } = await all(["the film"], { max_new_tokens: 6 }, new Switchboard(other, { task: "text-generation" }).decoder());
    expect(texts[0]!.ids).toEqual(plain.ids.slice(0, plain.ids.indexOf(end) + 1));
    expect(texts[0]!.finish_reason).toBe("stop");
  });

  it("ends at the model's longest text", async () => {
    const { texts } = await all(["the film"], { max_new_tokens: 500 });
    const { length } = model.tokenizer.encode("the film").ids;
    if (texts[0]!.finish_reason === "length") expect(length + texts[0]!.ids.length).toBe(64);
    const long = Array.from({ length: 63 }, () => 5);
    const one = (await all([long])).texts[0]!;
    expect(one.ids.length).toBe(1);
    await expect(all([[...long, 5]])).rejects.toThrow(/the prompt has 64 tokens, and a text may have 64 in all/);
  });

  it("ends all texts when it is told to, with what there is", async () => {
    const abort = new AbortController();
    const loop = generate(decoder, ["the film"], { max_new_tokens: 40 }, { signal: abort.signal });
    const first = await loop.next();
    abort.abort();
    let last = await loop.next();
    while (last.done !== true) last = await loop.next();
    expect(last.value[0]!.finish_reason).toBe("aborted");
    expect(last.value[0]!.text.startsWith((first.value as TextPiece).piece)).toBe(true);
    expect(last.value[0]!.ids.length).toBeLessThan(10);
  });

  it("refuses options that are not known or do not fit, and empty prompts", async () => {
    await expect(all(["a"], { top_n: 1 } as object)).rejects.toThrow(/generation option "top_n" is not known/);
    await expect(all(["a"], { top_p: 0 })).rejects.toThrow(/"top_p": /);
    await expect(all(["a", []])).rejects.toThrow(/prompt 2 of 2 is empty/);
    expect((await all([])).texts).toEqual([]);
  });
});
