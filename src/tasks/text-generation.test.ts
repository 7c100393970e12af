import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { collect, openTinyModel, tableOf, tinyOptions } from "../../test/tiny-model.fixture.js";
import { chatTemplate } from "../data/chat.js";
import { packTexts } from "../data/collate.js";
import { DataError, ModelError } from "../errors.js";
import { memoryFiles } from "../io/memory-files.js";
import { lora } from "../methods/lora.js";
import { loadAdapter } from "../programs/adapter.js";
import { adapterFiles } from "../programs/adapter-files.js";
import { type BaseModel, vocabularyOf } from "../programs/base-model.js";
import { predictor } from "../programs/pipeline.js";
import { nodeRuntime } from "../runtime/node.js";
import type { Runtime } from "../runtime/session.js";
import { train } from "../train/trainer.js";
import { logSoftmax } from "./logits.js";
import type { Target } from "./task.js";
import { textGeneration } from "./text-generation.js";

const rows = tableOf([
  { prompt: "Where is my hat?", completion: " It is on the shelf." },
  { prompt: "Who has the film?", completion: " Nobody has it." },
  { prompt: "Is the card new?", completion: " Yes, it is new." },
]);
let runtime: Runtime;
let model: BaseModel;
let target: Target;
beforeAll(async () => {
  runtime = nodeRuntime({ threads: 1 });
  model = await openTinyModel(runtime, { family: "llama", task: "text-generation" });
  target = textGeneration.target(rows, vocabularyOf(model));
});
afterAll(() => runtime.close());

const encode = (row: object, maxLength = 60) => textGeneration.encode(tableOf([{ ...row }]), 0, target, model.tokenizer, maxLength);

describe("rows", () => {
  it("are learned from the completion to the end token, each token from those before it", () => {
    const { tokenizer } = model;
    const prompt = [...tokenizer.encode("Where is my hat?").ids];
    const completion = [...tokenizer.encode(" It is on the shelf.", { addSpecialTokens: false }).ids];
    const { ids, reads, labels, truncated } = encode(rows.rows[0]!);
    expect(prompt[0]).toBe(tokenizer.bosId);
    expect([...ids]).toEqual([...prompt, ...completion]);
    expect(labels).toEqual([...completion, tokenizer.eosId]);
    expect(reads).toEqual(labels!.map((_, i) => prompt.length - 1 + i));
    expect(truncated).toBe(false);
  });

  it("of whole texts are learned but for their first token", () => {
    const { ids, reads, labels } = encode({ text: "the card is new" });
    expect([...ids]).toEqual([...model.tokenizer.encode("the card is new").ids]);
    expect(labels).toEqual([...ids.slice(1), model.tokenizer.eosId]);
    expect(reads).toEqual([...ids.keys()]);
  });

  it("are learned as a whole where that is asked for", () => {
    const row = tableOf([{ ...rows.rows[0]! }]);
    const scope = { train_on_prompt: true, last_turn_only: false };
    const { ids, reads, labels } = textGeneration.encode(row, 0, target, model.tokenizer, 60, scope);
    expect([...ids]).toEqual([...encode(rows.rows[0]!).ids]);
    expect(labels).toEqual([...ids.slice(1), model.tokenizer.eosId]);
    expect(reads).toEqual([...ids.keys()]);
  });

  it("of messages are learned up to the last end token", () => {
    const chatTemplateText = "{% for m in messages %}{{ m.content }}{{ eos_token }}{{ '\n' }}{% endfor %}";
    const tokenizer = { ...model.tokenizer, chatTemplate: chatTemplate(chatTemplateText, { eos_token: "<|end_of_text|>" }) };
    const messages = [
      { role: "user", content: "Who?" },
      { role: "assistant", content: "Nobody." },
    ];
    const { ids, reads, labels, truncated } = textGeneration.encode(tableOf([{ messages }]), 0, target, tokenizer, 60);
    const text = tokenizer.encode("Who?<|end_of_text|>\nNobody.<|end_of_text|>", { addSpecialTokens: false }).ids;
    const said = [...tokenizer.encode("Nobody.", { addSpecialTokens: false }).ids, tokenizer.eosId];
    expect([...ids]).toEqual([...text.slice(0, -1)]); // the end token is foretold only; the line break behind it is left out
    expect(labels).toEqual(said);
    expect(reads).toEqual(said.map((_, i) => text.length - said.length - 1 + i));
    expect(truncated).toBe(false);
  });

  it("are cut behind the longest length, and one that the prompt fills teaches nothing", () => {
    const whole = encode(rows.rows[0]!);
    const prompt = whole.ids.length - whole.labels!.length + 1;
    const cut = encode(rows.rows[0]!, whole.ids.length - 2);
    expect(cut.truncated).toBe(true);
    expect([...cut.ids]).toEqual([...whole.ids.slice(0, -2)]);
    expect(cut.labels).toEqual(whole.labels!.slice(0, -2));
    expect(encode(rows.rows[0]!, prompt - 1)).toMatchObject({ truncated: true, reads: [], labels: [] });
  });

  it("give the head's rows behind virtual tokens", () => {
    const examples = [encode({ prompt: "a", completion: "b" }), encode({ text: "new" })];
    const packed = packTexts(examples, { virtualTokens: 2, firstPosition: 0, summary: "last" });
    const { lossRows } = textGeneration.feeds(packed, examples, target);
    const second = examples[0]!.ids.length + 4;
    expect([...lossRows!.data]).toEqual([...examples[0]!.reads!.map((at) => at + 2), ...examples[1]!.reads!.map((at) => second + at)]);
  });

  it.each<[row: object, error: RegExp]>([
    [{ prompt: "Who?" }, /no column "completion"/],
    [{ question: "Who?" }, /no column "text"/],
    [{ prompt: "Who?", completion: "" }, /the completion is empty/],
    [{ prompt: "Who?", completion: 7 }, /"completion" is 7, expected a text/],
    [{ text: "a", completion: "b" }, /it is either a whole text or a prompt with a completion/],
  ])("%j end in a clear error", async (row, error) => {
    const found = await failure(async () => encode(row));
    expect(found).toBeInstanceOf(DataError);
    expect(found.message).toMatch(error);
  });

  it("need a tokenizer with an end token", async () => {
    const { tokenizer, ...rest } = vocabularyOf(model);
    const found = await failure(async () => textGeneration.target(rows, { ...rest, tokenizer: { ...tokenizer, eosId: undefined } }));
    expect(found).toBeInstanceOf(ModelError);
    expect(found.message).toMatch(/no end token/);
  });
});

describe("training", () => {
  it("passes over rows whose completion is cut off, and ends where all are", { timeout: 60_000 }, async () => {
    const input = { model, task: textGeneration, method: lora, config: lora.config.parse({}), now: () => 0 };
    const long = tableOf([{ prompt: "hats ".repeat(40), completion: "new" }, ...rows.rows.map((row) => ({ ...row }))]);
    const options = tinyOptions({ max_steps: 4, batch_size: 1, max_length: 40 });
    const { events } = await collect(train({ ...input, rows: long, evalRows: rows, options }));
    expect(events[0]).toMatchObject({ event: "start", train_rows: 3, truncated_rows: 1 });
    for (const event of events) if (event.event === "step") expect(event.loss).toBeGreaterThan(0);
    const short = tinyOptions({ max_steps: 1, max_length: 3 });
    const found = await failure(() => collect(train({ ...input, rows: long, evalRows: rows, options: short })));
    expect(found.message).toMatch(/after cutting texts at 3 tokens no row has anything left to learn/);
  });

  it("lowers the loss, keeps the base's head, and judges completions as the logits say", { timeout: 60_000 }, async () => {
    const input = { model, task: textGeneration, method: lora, config: lora.config.parse({ target_modules: "all-linear" }), now: () => 0 };
    const options = tinyOptions({ max_steps: 80, batch_size: 3, learning_rate: 2e-2, eval_on_start: true });
    const { events, result } = await collect(train({ ...input, rows, evalRows: rows, options }));
    const evals = events.flatMap((event) => (event.event === "eval" ? [event] : []));
    expect(evals.at(-1)!.loss).toBeLessThan(0.5 * evals[0]!.loss);
    expect(evals.at(-1)!.metrics.perplexity).toBeCloseTo(Math.exp(evals.at(-1)!.loss), 5);
    expect([...result.adapter.params.keys()].filter((path) => !path.includes("lora_"))).toEqual([]);

    const loaded = await loadAdapter(model, memoryFiles("adapter", await adapterFiles(model, result.adapter)));
    expect(loaded.head.task).toBe(textGeneration);
    const ready = predictor(model, loaded);
    const examples = ready.encode(rows);
    const whole = await ready.run(examples, true);
    const judged = textGeneration.predict(await ready.run(examples), rows, target);
    const { size } = vocabularyOf(model);
    for (const [i, { labels }] of examples.entries()) {
      const completion = labels!.slice(0, -1);
      const logs = completion.map((label, at) => logSoftmax(whole[i]!.subarray(at * size, (at + 1) * size))[label]!);
      expect(judged[i]!.tokens).toBe(completion.length);
      expect(judged[i]!.logprob).toBeCloseTo(
        logs.reduce((a, b) => a + b),
        3,
      );
    }
    await ready.dispose();
  });
});
