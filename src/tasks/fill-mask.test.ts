import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { collect, openTinyModel, type TinyFamily, tableOf, tinyOptions, tinyRows } from "../../test/tiny-model.fixture.js";
import { batchInputs } from "../core/batch.js";
import { input } from "../core/graph.js";
import { keyOf } from "../core/random.js";
import { f32, i32 } from "../core/tensor.js";
import { packTexts } from "../data/collate.js";
import { DataError, ModelError } from "../errors.js";
import { memoryFiles } from "../io/memory-files.js";
import { methodChoice, methods } from "../methods/index.js";
import { runGraph } from "../ops/run-graph.fixture.js";
import { headToTrain, loadAdapter, withoutAdapter } from "../programs/adapter.js";
import { adapterFiles } from "../programs/adapter-files.js";
import { type BaseModel, vocabularyOf } from "../programs/base-model.js";
import { predictor } from "../programs/pipeline.js";
import { nodeRuntime } from "../runtime/node.js";
import type { Runtime } from "../runtime/session.js";
import { train } from "../train/trainer.js";
import { fillMask } from "./fill-mask.js";
import { slices, type Target } from "./task.js";

const texts = tableOf(tinyRows(24).map(({ text }) => ({ text })));
let runtime: Runtime;
let model: BaseModel;
let target: Target;
beforeAll(async () => {
  runtime = nodeRuntime({ threads: 1 });
  model = await openTinyModel(runtime, { task: "fill-mask", labels: 1 });
  target = fillMask.target(texts, vocabularyOf(model));
});
afterAll(() => runtime.close());

const encode = (text: string, index = 0) =>
  fillMask.encode(tableOf(Array.from({ length: index + 1 }, () => ({ text }))), index, target, model.tokenizer, 32);

describe("rows", () => {
  it("are whole texts of which tokens are covered up, the same in every evaluation, others in every pass of training", () => {
    const example = encode("the film was hard to find for all of them and so on");
    const whole = model.tokenizer.encode("the film was hard to find for all of them and so on").ids;
    expect(example.whole).toEqual(whole);
    expect(example.labels).toEqual(example.reads!.map((place) => whole[place]));
    expect(encode("the film was hard to find for all of them and so on")).toEqual(example);
    const passes = [0, 1, 2, 3].map((pass) => fillMask.redraw!(example, target, keyOf(0, pass)));
    expect(new Set(passes.map(({ reads }) => JSON.stringify(reads))).size).toBeGreaterThan(1);
    for (const pass of passes) expect(pass.labels).toEqual(pass.reads!.map((place) => whole[place]));
  });

  it("are covered up by their place among the rows, not by the text alone", () => {
    const text = "the film was hard to find for all of them and so on";
    const draws = [0, 1, 2, 3].map((index) => JSON.stringify(encode(text, index).reads));
    expect(new Set(draws).size).toBeGreaterThan(1);
  });

  it("with mask tokens are to be filled in", () => {
    const { ids, reads, labels } = encode("the [MASK] was [MASK] to find");
    expect(labels).toBeUndefined();
    expect(reads!.length).toBe(2);
    expect(reads!.map((place) => ids[place])).toEqual([model.tokenizer.maskId, model.tokenizer.maskId]);
  });

  it("give the head's rows and their classes", () => {
    const examples = [encode("the [MASK] was [MASK] to find"), encode("my card is new")];
    const { lossRows, classes } = fillMask.feeds(
      packTexts(examples, { virtualTokens: 2, firstPosition: 0, summary: "first" }),
      examples,
      target,
    );
    const [first, second] = examples;
    const start = first!.ids.length + 4;
    expect(Array.from(lossRows!.data, Number)).toEqual([...first!.reads!.map((at) => at + 2), ...second!.reads!.map((at) => at + start)]);
    expect(Array.from(classes!.data, Number)).toEqual([-1, -1, ...second!.labels!]);
  });
});

describe("refuses", () => {
  it("a tokenizer without a mask token", async () => {
    const bare = { ...model.tokenizer, maskId: undefined };
    const error = await failure(() => fillMask.target(texts, { tokenizer: bare, size: 282 }));
    expect(error).toBeInstanceOf(ModelError);
    expect(error.message).toBe("the model's tokenizer has no mask token");
  });

  it("a text in which nothing can be masked", async () => {
    const error = await failure(() => fillMask.encode(tableOf([{ text: "my card" }, { text: "[SEP]" }]), 1, target, model.tokenizer, 32));
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toBe("rows.jsonl:2: nothing in the text can be masked");
  });

  it("masks in training rows, rows without a text, and texts that are none", async () => {
    const vocabulary = vocabularyOf(model);
    const masked = await failure(() => fillMask.target(tableOf([{ text: "a" }, { text: "a [MASK]" }]), vocabulary));
    expect(masked.message).toMatch(/^rows\.jsonl:2: the text has \[MASK\] in it/);
    const absent = await failure(() => fillMask.encode(tableOf([{ sentence: "a" }]), 0, target, model.tokenizer, 32));
    expect(absent.message).toBe('rows.jsonl:1: no column "text"; there are: "sentence"');
    const number = await failure(() => fillMask.encode(tableOf([{ text: 5 }]), 0, target, model.tokenizer, 32));
    expect(number.message).toBe('rows.jsonl:1: "text" is 5, expected a text');
  });
});

describe("what is kept of the head's outputs", () => {
  it("gives loss, perplexity and accuracy of the whole outputs", async () => {
    const rows = [
      [0, 3, 1, -1, 2, 0.5],
      [1, 0, 0, 0, 0, 4],
    ];
    const classes = [4, 5];
    const nats = rows.map((row, i) => Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0)) - row[classes[i]!]!);
    const kept = fillMask.keep!.of(input("logits", "float32", ["L", 6]), batchInputs(false));
    const { data } = (await runGraph(runtime, { kept }, { logits: f32(rows.flat(), [2, 6]), classes: i32(classes) })).kept!;
    const outputs = slices(data as Float32Array, fillMask.keep!.width);
    const examples = classes.map((label) => ({
      ids: new Int32Array(3),
      typeIds: new Int32Array(3),
      reads: [1],
      labels: [label],
      truncated: false,
    }));
    const { loss, metrics } = fillMask.evaluate(outputs, examples, target);
    expect(loss).toBeCloseTo((nats[0]! + nats[1]!) / 2, 5);
    expect(metrics.perplexity).toBeCloseTo(Math.exp((nats[0]! + nats[1]!) / 2), 4);
    expect(metrics.accuracy).toBe(0.5);
  });

  it("names the likeliest tokens for each mask, with and without the whole outputs", async () => {
    const ready = predictor(model, withoutAdapter(model, fillMask));
    const table = tableOf([{ text: "the [MASK] was [MASK] to find" }, { text: "my [MASK]" }]);
    const examples = ready.encode(table);
    const kept = fillMask.predict(await ready.run(examples), table, target);
    const whole = fillMask.predict(await ready.run(examples, true), table, target, true);
    await ready.dispose();
    const near = kept.map(({ text, masks }) => ({
      text,
      masks: (masks as { token: string; id: number; score: number }[][]).map((mask) =>
        mask.map((each) => ({ ...each, score: expect.closeTo(each.score, 6) })),
      ),
    }));
    expect(whole.map(({ logits: _, ...rest }) => rest)).toEqual(near);
    const [first] = whole as unknown as [{ masks: { token: string; id: number; score: number }[][]; logits: number[][] }];
    expect(first.masks.length).toBe(2);
    for (const [i, mask] of first.masks.entries()) {
      const logits = first.logits[i]!;
      const order = logits.map((_, id) => id).sort((a, b) => logits[b]! - logits[a]!);
      expect(mask.map(({ id }) => id)).toEqual(order.slice(0, 5));
      const total = logits.reduce((sum, value) => sum + Math.exp(value), 0);
      expect(mask[0]!.score).toBeCloseTo(Math.exp(logits[order[0]!]!) / total, 5);
      expect(mask[0]!.token).toBe(model.tokenizer.decode([order[0]!]));
    }
  });
});

/** Families whose models are trained by covering tokens up. */
const maskedFamilies = ["bert", "roberta", "distilbert"] as const satisfies readonly TinyFamily[];

describe.each(maskedFamilies)("training on %s", (family) => {
  it.each([
    ["the base's head stays as it is", true],
    ["a fresh head is trained and saved", false],
  ])("%s, and the loss falls", { timeout: 60_000 }, async (_, trained) => {
    const base = await openTinyModel(runtime, { family, task: "fill-mask", ...(trained ? { labels: 1 } : {}) });
    const { method, preset } = methodChoice("seq_bn_inv");
    const config = method.config.parse({ ...preset, reduction_factor: 1, inv_adapter_reduction_factor: 1 });
    const input = { model: base, task: fillMask, method, config, rows: texts, evalRows: texts, now: () => 0 };
    const options = tinyOptions({ max_steps: 150, learning_rate: 3e-2, eval_on_start: true, eval_steps: 150 });
    const { events, result } = await collect(train({ ...input, options }));
    const losses = events.flatMap((event) => (event.event === "eval" ? [event.loss] : []));
    expect(losses.length).toBe(2);
    expect(losses[1]! / losses[0]!).toBeLessThan(0.9);

    const files = await adapterFiles(base, result.adapter);
    expect(Object.keys(files).includes("model_head.safetensors")).toBe(!trained);
    const again = await loadAdapter(base, memoryFiles("saved", files), trained ? "fill-mask" : undefined);
    const ready = predictor(base, again);
    const examples = ready.encode(texts);
    expect(fillMask.evaluate(await ready.run(examples), examples, again.head.target).loss).toBeCloseTo(losses[1]!, 5);
    await ready.dispose();
  });
});

it("LoRA on a base with a trained head saves no head, and one without saves it", async () => {
  for (const trained of [true, false]) {
    const base = await openTinyModel(runtime, { task: "fill-mask", ...(trained ? { labels: 1 } : {}) });
    expect(headToTrain(base, fillMask, texts).base).toBe(trained);
    const { method } = methodChoice("lora");
    const { result } = await collect(
      train({
        model: base,
        task: fillMask,
        method,
        config: method.config.parse({}),
        rows: texts,
        options: tinyOptions({ max_steps: 1 }),
        now: () => 0,
      }),
    );
    const files = await adapterFiles(base, result.adapter);
    const json = JSON.parse(new TextDecoder().decode(files["adapter_config.json"])) as { modules_to_save?: string[]; task_type?: string };
    expect(json.task_type).toBeUndefined();
    expect(json.modules_to_save ?? []).toEqual(trained ? [] : ["cls"]);
    const again = await loadAdapter(base, memoryFiles("saved", files), "fill-mask");
    expect([...again.params.keys()].some((path) => path.startsWith("cls."))).toBe(!trained);
  }
});

describe.each([true, false])("with a head in the checkpoint: %s", (trained) => {
  it.each(methods.filter(({ name }) => !(trained && name === "head")))(
    "$name trains, and its files give the same again",
    async (method) => {
      const base = await openTinyModel(runtime, { task: "fill-mask", ...(trained ? { labels: 1 } : {}) });
      const config = method.config.parse(method.layout === undefined ? {} : { num_virtual_tokens: 2 });
      const options = tinyOptions({ max_steps: 2 });
      const { result } = await collect(
        train({ model: base, task: fillMask, method, config, rows: texts, evalRows: texts, options, now: () => 0 }),
      );
      const again = await loadAdapter(base, memoryFiles("saved", await adapterFiles(base, result.adapter)), "fill-mask");
      const ready = predictor(base, again);
      const examples = ready.encode(texts);
      expect(fillMask.evaluate(await ready.run(examples), examples, again.head.target).loss).toBeCloseTo(result.loss!, 5);
      await ready.dispose();
    },
  );
});

it("refuses to train a head alone that stays as it is", async () => {
  const { method } = methodChoice("head");
  const loop = train({ model, task: fillMask, method, config: method.config.parse({}), rows: texts, options: tinyOptions(), now: () => 0 });
  await expect(collect(loop)).rejects.toThrow(/nothing to train/);
});
