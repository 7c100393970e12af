import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { collect, memoryStore, openTinyModel, tableOf, tinyOptions, tinyRows } from "../../test/tiny-model.fixture.js";
import { CheckpointError, DataError, NumericError } from "../errors.js";
import { lora } from "../methods/lora.js";
import type { BaseModel } from "../programs/base-model.js";
import { predictor } from "../programs/pipeline.js";
import { nodeRuntime } from "../runtime/node.js";
import { textClassification } from "../tasks/text-classification.js";
import type { TrainEvent } from "./events.js";
import type { TrainingOptions } from "./options.js";
import { type TrainInput, train } from "./trainer.js";

const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
beforeAll(async () => {
  model = await openTinyModel(runtime);
});
afterAll(() => runtime.close());

type Changes = Omit<Partial<TrainInput>, "options" | "config"> & {
  readonly options?: Partial<TrainingOptions>;
  readonly config?: object;
};

function input({ options, config = {}, ...rest }: Changes = {}): TrainInput {
  return {
    model,
    task: textClassification,
    method: lora,
    config: lora.config.parse({ r: 2, ...config }),
    rows: tableOf(tinyRows(24)),
    evalRows: tableOf(tinyRows(9, 24), "eval.jsonl"),
    options: tinyOptions({ lr_scheduler_type: "constant", ...options }),
    now: () => 0,
    ...rest,
  };
}

const run = (changes: Changes = {}) => collect(train(input(changes)));
const names = (events: readonly TrainEvent[]): readonly string[] =>
  events.map((event) => ("step" in event ? `${event.event} ${event.step}` : event.event));
const of = <E extends TrainEvent["event"]>(events: readonly TrainEvent[], name: E): readonly (TrainEvent & { event: E })[] =>
  events.filter((event): event is TrainEvent & { event: E } => event.event === name);
const losses = (events: readonly TrainEvent[]): readonly number[] => of(events, "step").map(({ loss }) => loss);

/** Rows whose labels are those of other words: the better the training, the worse they come out. */
const misleading = tableOf(
  tinyRows(12).map(({ text, label }) => ({ text, label: label === "card" ? "film" : label === "film" ? "hats" : "card" })),
  "eval.jsonl",
);

describe("events", () => {
  it("come in their order, with these fields", async () => {
    let clock = 0;
    const { events, result } = await run({
      options: { batch_size: 8, epochs: 2, eval_on_start: true },
      checkpoints: memoryStore(),
      now: () => {
        clock += 0.25;
        return clock;
      },
      peakMemory: () => 12345,
    });
    expect(names(events)).toEqual([
      ...["start", "eval 0", "step 1", "step 2", "step 3", "eval 3", "checkpoint 3"],
      ...["step 4", "step 5", "step 6", "eval 6", "checkpoint 6", "end 6"],
    ]);
    expect(events[0]).toEqual({
      event: "start",
      model: "tiny",
      task: "text-classification",
      method: "lora",
      train_rows: 24,
      eval_rows: 9,
      eval_source: "given",
      truncated_rows: 0,
      dropped_rows: 0,
      labels: ["card", "film", "hats"],
      trained_parameters: 4 * 2 * (2 * 16) + 3 * 16 + 3, // A and B of four layers, and the classifier
      total_parameters: 282 * 16 + 2 * 16 + 32 * 16 + 2 * 16 + 2 * (4 * 17 * 16 + 17 * 24 + 25 * 16 + 4 * 16) + 17 * 16 + 4 * 2 * 32 + 51,
      new_modules: [],
      learning_rate: 0.01,
      base_dtype: "f32",
      steps: 6,
      steps_per_epoch: 3,
      resumed_from: null,
    });
    const [step] = of(events, "step");
    expect(step).toEqual({
      event: "step",
      step: 1,
      epoch: 1 / 3,
      loss: expect.any(Number),
      learning_rate: 0.01,
      grad_norm: expect.any(Number),
      examples_per_second: expect.any(Number),
      tokens_per_second: expect.any(Number),
      seconds: expect.any(Number),
    });
    expect(step!.loss).toBeGreaterThan(0.5);
    expect(step!.grad_norm).toBeGreaterThan(0.01);
    expect(step!.tokens_per_second / step!.examples_per_second).toBeGreaterThan(4); // tokens in a text
    const seconds = events.flatMap((event) => ("seconds" in event ? [event.seconds] : []));
    expect(seconds).toEqual([...seconds].sort((a, b) => a - b));
    const evals = of(events, "eval");
    expect(evals[0]).toEqual({
      event: "eval",
      step: 0,
      loss: expect.any(Number),
      metrics: { accuracy: expect.any(Number), macro_f1: expect.any(Number), matthews: expect.any(Number) },
      best: true,
      seconds: expect.any(Number),
    });
    expect(events.at(-1)).toEqual({
      event: "end",
      step: 6,
      restored_step: 6,
      stopped_early: false,
      loss: evals.at(-1)!.loss,
      metrics: evals.at(-1)!.metrics,
      adapter: null,
      seconds: expect.any(Number),
      peak_rss_bytes: 12345,
    });
    expect(result).toMatchObject({ finished: true, steps: 6, loss: evals.at(-1)!.loss, metrics: evals.at(-1)!.metrics });
  });

  it("tell texts that were cut, and modules that the checkpoint lacks", async () => {
    const { events } = await run({ options: { max_length: 6, max_steps: 1 } });
    const [start] = of(events, "start");
    expect(start!.truncated_rows).toBeGreaterThan(5);
    expect(start!.truncated_rows).toBeLessThan(24);
  });

  it("have no labels for numbers", async () => {
    const rows = tableOf(tinyRows(24).map(({ text }, i) => ({ text, label: i / 10 })));
    const { events } = await run({ rows, evalRows: rows, options: { max_steps: 2 } });
    expect(of(events, "start")[0]!.labels).toBeNull();
    expect(Object.keys(of(events, "eval")[0]!.metrics)).toEqual(["pearson", "spearman", "mse"]);
  });
});

describe("steps", () => {
  it.each<[options: Partial<TrainingOptions>, total: number, evals: readonly number[], saves: readonly number[]]>([
    [{ epochs: 1 }, 3, [3], [3]],
    [{ epochs: 1.5 }, 5, [3, 5], [3, 5]],
    [{ epochs: 0.1 }, 1, [1], [1]],
    [{ epochs: 9, max_steps: 4 }, 4, [3, 4], [3, 4]],
    [{ epochs: 1, min_steps: 2 }, 3, [3], [3]],
    [{ epochs: 1, min_steps: 7 }, 7, [3, 6, 7], [3, 6, 7]],
    [{ min_steps: 7, max_steps: 4 }, 4, [3, 4], [3, 4]],
    [{ max_steps: 5, eval_steps: 2, save_steps: 3 }, 5, [2, 4, 5], [3, 5]],
    [{ epochs: 1, gradient_accumulation_steps: 2 }, 2, [2], [2]],
    [{ epochs: 2, batch_size: 7 }, 8, [4, 8], [4, 8]], // the last batch of an epoch is smaller
  ])("%j: %i of them", async (options, total, evals, saves) => {
    const { events } = await run({ options, checkpoints: memoryStore() });
    expect(of(events, "start")[0]!.steps).toBe(total);
    expect(of(events, "step").map(({ step }) => step)).toEqual(Array.from({ length: total }, (_, i) => i + 1));
    expect(of(events, "eval").map(({ step }) => step)).toEqual(evals);
    expect(of(events, "checkpoint").map(({ step }) => step)).toEqual(saves);
  });

  it("follow the schedule", async () => {
    const options = { max_steps: 4, lr_scheduler_type: "linear", warmup_ratio: 0.5, learning_rate: 0.4 } as const;
    const rates = of((await run({ options })).events, "step").map(({ learning_rate }) => learning_rate);
    for (const [i, rate] of [0, 0.2, 0.4, 0.2].entries()) expect(rates[i]).toBeCloseTo(rate, 12);
  });

  it("take the method's learning rate where none is given", async () => {
    const { events } = await run({ options: { max_steps: 1, learning_rate: null } });
    expect(of(events, "start")[0]!.learning_rate).toBe(lora.learningRate);
    expect(of(events, "step")[0]!.learning_rate).toBe(lora.learningRate);
  });

  it.each([
    [24, 8, 2],
    [21, 8, 4], // batches of 2 in steps of 8 rows, the last of 5: 2, 2 and 1
  ])("of %i rows, %i at once, are the same in parts", async (count, batch, parts) => {
    const rows = tableOf(tinyRows(count));
    const options = { group_by_length: false, epochs: 2, weight_decay: 0.1, max_grad_norm: 0.5 } as const;
    const whole = await run({ rows, options: { ...options, batch_size: batch } });
    const split = await run({ rows, options: { ...options, batch_size: batch / parts, gradient_accumulation_steps: parts } });
    expect(losses(split.events)).toHaveLength(6);
    for (const [i, { loss, grad_norm }] of of(whole.events, "step").entries()) {
      const other = of(split.events, "step")[i]!;
      expect(Math.abs(other.loss - loss)).toBeLessThan(1e-5);
      expect(Math.abs(other.grad_norm - grad_norm)).toBeLessThan(1e-5 * (1 + grad_norm));
    }
    for (const [path, { data }] of whole.result.adapter.params) {
      const gap = split.result.adapter.params.get(path)!.data.map((value, i) => Math.abs(value - data[i]!));
      expect(Math.max(...gap), path).toBeLessThan(1e-3); // Adam divides tiny gradients by themselves: rounding shows here
    }
  });

  it("draw dropout anew for each step and each of its batches", async () => {
    const rows = tableOf(Array.from({ length: 8 }, () => ({ text: "my card is new", label: 0.5 }))); // all alike: only masks tell them apart
    const still = { learning_rate: 1e-30, dropout: 0.2 } as const;
    const draw = async (options: Partial<TrainingOptions>) =>
      losses((await run({ rows, evalRows: undefined, options: { ...still, ...options } })).events);
    const whole = await draw({ max_steps: 4 });
    expect(new Set(whole).size).toBe(4);
    expect(new Set(await draw({ max_steps: 4, dropout: "off" })).size).toBe(1);
    const [first] = await draw({ max_steps: 1, batch_size: 4 });
    const [both] = await draw({ max_steps: 1, batch_size: 4, gradient_accumulation_steps: 2 });
    expect(Math.abs(both! - first!)).toBeGreaterThan(1e-4);
  });
});

describe("evaluation", () => {
  it("is on a tenth of the rows, held out, where none are given", async () => {
    const { events } = await run({ rows: tableOf(tinyRows(60)), evalRows: undefined, options: { max_steps: 1 } });
    expect(events[0]).toMatchObject({ train_rows: 54, eval_rows: 6, eval_source: "held-out" });
    expect(of(events, "eval")).toHaveLength(1);
  });

  it("is left out for very few rows", async () => {
    const { events, result } = await run({
      rows: tableOf(tinyRows(19)),
      evalRows: undefined,
      options: { max_steps: 1, eval_on_start: true },
    });
    expect(events[0]).toMatchObject({ train_rows: 19, eval_rows: 0, eval_source: "none" });
    expect(names(events)).toEqual(["start", "step 1", "end 1"]);
    expect(result).toMatchObject({ loss: null, metrics: {} });
  });

  it("stops the training when it gets no better, and gives the best back", async () => {
    const options = { epochs: 20, eval_steps: 1, early_stopping_patience: 3, seed: 1 } as const;
    const { events, result } = await run({ evalRows: misleading, options, checkpoints: memoryStore() });
    const end = of(events, "end")[0]!;
    const evals = of(events, "eval");
    const best = evals.filter((event) => event.best).at(-1)!;
    expect(end).toMatchObject({ stopped_early: true, restored_step: best.step, loss: best.loss, metrics: best.metrics });
    expect(end.step).toBe(best.step + 3);
    expect(end.step).toBeLessThan(60);
    const accuracy = (event: (typeof evals)[number]): number => event.metrics.accuracy!;
    expect(accuracy(best)).toBe(Math.max(...evals.map(accuracy)));
    expect(result).toMatchObject({ finished: true, loss: best.loss });
    expect(of(events, "checkpoint").at(-1)!.step).toBe(end.step);

    // The adapter is the one of that step: evaluated again it gives the same, and it is not the last.
    const ready = predictor(model, result.adapter);
    const examples = ready.encode(misleading);
    expect(textClassification.evaluate(await ready.run(examples), examples, result.adapter.head.target).loss).toBe(best.loss);
    await ready.dispose();
    expect(best.loss).not.toBe(evals.at(-1)!.loss);
  });

  it("refuses rows without a label, with file and line", async () => {
    const error = await failure(() => run({ evalRows: tableOf([...tinyRows(4), { text: "my card" }], "eval.jsonl") }));
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toContain("eval.jsonl:5");
  });

  it("refuses a label that is in the evaluation rows only, with file and line", async () => {
    const rows = [...tinyRows(4), { text: "my card", label: "hat" }];
    const error = await failure(() => run({ evalRows: tableOf(rows, "eval.jsonl") }));
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toContain("eval.jsonl:5");
    expect(error.message).toContain('"hat"');
    expect(error.hint).toContain('"hats"');
  });
});

describe("a loss that is not finite", () => {
  const rows = tableOf(tinyRows(24).map(({ text }, i) => ({ text, label: i / 10 })));
  const options = { learning_rate: 1e39, max_grad_norm: 0 }; // beyond float32

  it("ends the training with the last checkpoint untouched", async () => {
    const checkpoints = memoryStore();
    const error = await failure(() => run({ rows, evalRows: rows, options: { ...options, save_steps: 1, max_steps: 5 }, checkpoints }));
    expect(error).toBeInstanceOf(NumericError);
    expect(error.message).toMatch(/^step 2: the loss is (NaN|Infinity), the gradients' norm (NaN|Infinity)$/);
    expect(error.hint).toContain("lower learning rate");
    expect([...checkpoints.saved.keys()]).toEqual([1]);
  });

  it("ends it in an evaluation too", async () => {
    const checkpoints = memoryStore();
    const error = await failure(() => run({ rows, evalRows: rows, options: { ...options, max_steps: 1 }, checkpoints }));
    expect(error).toBeInstanceOf(NumericError);
    expect(error.message).toMatch(/^the evaluation after step 1: the loss is (NaN|Infinity)$/);
    expect(checkpoints.saved.size).toBe(0);
  });
});

describe("an interrupt", () => {
  it("ends after the step under way, with a checkpoint", async () => {
    const abort = new AbortController();
    const checkpoints = memoryStore();
    const events: TrainEvent[] = [];
    const loop = train(input({ checkpoints, signal: abort.signal }));
    for (;;) {
      const { value, done } = await loop.next();
      if (done === true) {
        expect(value).toMatchObject({ finished: false, steps: 2 });
        break;
      }
      events.push(value);
      if (value.event === "step" && value.step === 2) abort.abort();
    }
    expect(names(events)).toEqual(["start", "step 1", "step 2", "checkpoint 2", "interrupted 2"]);
    expect(events.at(-1)).toEqual({ event: "interrupted", step: 2, checkpoint: "checkpoint-2" });
    expect([...checkpoints.saved.keys()]).toEqual([2]);
  });

  it("without a place for checkpoints says so", async () => {
    const { events } = await run({ signal: AbortSignal.abort() });
    expect(events.at(-1)).toEqual({ event: "interrupted", step: 1, checkpoint: null });
  });

  it("after the last step changes nothing", async () => {
    const { events } = await run({ signal: AbortSignal.abort(), options: { max_steps: 1 } });
    expect(events.at(-1)!.event).toBe("end");
  });
});

describe("resuming", () => {
  it.each<[what: string, changes: Changes]>([
    ["in the middle of an epoch", {}],
    ["with dropout everywhere", { options: { dropout: 0.1 }, config: { lora_dropout: 0.2 } }],
    ["with accumulation", { options: { batch_size: 3, gradient_accumulation_steps: 2 } }],
    ["with a budget of tokens", { options: { max_tokens_per_batch: 40 } }],
    ["with recomputed layers and dropout", { options: { recompute: true, dropout: 0.1 } }],
    ["with a schedule and decay", { options: { lr_scheduler_type: "cosine", warmup_ratio: 0.3, weight_decay: 0.1 } }],
    ["with early stopping", { evalRows: misleading, options: { early_stopping_patience: 3, epochs: 20, seed: 1 } }],
    ["with rows held out", { evalRows: undefined, rows: tableOf(tinyRows(40)) }],
  ])("%s is bit for bit as if it had never stopped", async (_, changes) => {
    const { options, ...rest } = changes;
    const all = { ...rest, options: { eval_steps: 2, save_steps: 1, epochs: 3, ...options } };
    const checkpoints = memoryStore();
    const whole = await run({ ...all, checkpoints });
    const steps = [...checkpoints.saved.keys()];
    expect(steps.length).toBeGreaterThan(6);
    for (const step of [1, 4, steps.at(-2)!, steps.at(-1)!]) {
      const store = memoryStore();
      store.saved.set(step, checkpoints.saved.get(step)!);
      const rest = await run({ ...all, checkpoints: store, resume: true });
      expect(rest.events[0]).toEqual({ ...whole.events[0], resumed_from: step });
      const from = whole.events.findIndex((event) => event.event === "checkpoint" && event.step === step) + 1;
      expect(timeless(rest.events.slice(1)), `from step ${step}`).toEqual(timeless(whole.events.slice(from)));
      expect(rest.result.adapter.params).toEqual(whole.result.adapter.params);
      expect({ loss: rest.result.loss, metrics: rest.result.metrics }).toEqual({ loss: whole.result.loss, metrics: whole.result.metrics });
      for (const [later, files] of store.saved) {
        for (const name of Object.keys(files)) {
          if (name !== "trainer_state.json") expect(Buffer.compare(files[name]!, checkpoints.saved.get(later)![name]!), name).toBe(0);
        }
      }
    }
  });

  it("refuses changed options, data and method, each by name", async () => {
    const checkpoints = memoryStore();
    await run({ checkpoints, options: { max_steps: 2 } });
    const changed = { max_steps: 2, batch_size: 4, seed: 3, learning_rate: 0.5 };
    const error = await failure(() =>
      run({ checkpoints, resume: true, rows: tableOf(tinyRows(24, 3)), config: { r: 4 }, options: changed }),
    );
    expect(error).toBeInstanceOf(CheckpointError);
    for (const line of [
      "options.batch_size: was 8, now 4",
      "options.seed: was 0, now 3",
      "options.learning_rate: was 0.01, now 0.5",
      "config.r: was 2, now 4",
      "data: was ",
    ])
      expect(error.message).toContain(line);
    expect(error.message).not.toContain("max_steps");
    expect(error.message).toContain("checkpoint-2");
  });

  it("lets save_steps change", async () => {
    const checkpoints = memoryStore();
    await run({ checkpoints, options: { save_steps: 2 } });
    await expect(run({ checkpoints, resume: true, options: { save_steps: 1 } })).resolves.toBeDefined();
  });

  it("needs a checkpoint", async () => {
    for (const checkpoints of [memoryStore(), undefined]) {
      const error = await failure(() => run({ ...(checkpoints && { checkpoints }), resume: true }));
      expect(error).toBeInstanceOf(CheckpointError);
      expect(error.message).toContain("no checkpoint to resume from");
    }
  });
});

/** Events without what hangs on the clock. */
function timeless(events: readonly TrainEvent[]): readonly object[] {
  return events.map((event) => ({ ...event, seconds: 0, examples_per_second: 0, tokens_per_second: 0 }));
}
