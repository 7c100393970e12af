import { expect, test } from "vitest";
import { openTinyModel, type TinyModelOptions } from "../../test/tiny-model.fixture.js";
import { methodChoice } from "../methods/index.js";
import { taskNamed } from "../tasks/index.js";
import { attach, type TaskHead } from "./adapted-model.js";
import { vocabularyOf } from "./base-model.js";
import { noRuntime } from "./inspect.js";
import { estimateMemory, type MemoryEstimate } from "./memory.js";
import { type BatchOptions, type TrainingPlan, trainingPlan } from "./training-plan.js";

const plain: BatchOptions = {
  batch_size: 4,
  max_length: 16,
  max_tokens_per_batch: null,
  dropout: "off",
  recompute: false,
  base_dtype: "f32",
};

interface Asked {
  readonly model?: TinyModelOptions;
  readonly task?: string;
  readonly method?: string;
  readonly options?: Partial<BatchOptions>;
}

async function estimated({
  model: which = {},
  task: name = "text-classification",
  method: named = "lora",
  options = {},
}: Asked = {}): Promise<{
  readonly memory: MemoryEstimate;
  readonly plan: TrainingPlan;
}> {
  const model = await openTinyModel(noRuntime, which);
  const task = taskNamed(name);
  const head: TaskHead = task.keepsHead
    ? { task, target: { kind: "tokens", vocabulary: vocabularyOf(model) }, base: true }
    : { task, target: { kind: "classes", labels: ["a", "b"] } };
  const { method, preset } = methodChoice(named);
  const attachment = attach(model, head, method, method.config.parse({ ...preset }), "user");
  const plan = trainingPlan(model, head, [attachment], { ...plain, ...options });
  return { plan, memory: estimateMemory(model, plan) };
}

const llama = { family: "llama", task: "text-generation", labels: 1 } as const;
const bert = { family: "bert", task: "fill-mask", labels: 1 } as const;

test("it adds up, and a step's values grow with batch and length", async () => {
  const small = (await estimated()).memory;
  const { batch_size, max_length, total_bytes, ...parts } = small;
  expect([batch_size, max_length]).toEqual([4, 16]);
  expect(total_bytes).toBe(Object.values(parts).reduce((sum, part) => sum + part, 0));
  const activations = async (options: Partial<BatchOptions>): Promise<number> => (await estimated({ options })).memory.activations_bytes;
  expect((await activations({ batch_size: 8 })) / small.activations_bytes).toBeCloseTo(2, 1);
  expect(await activations({ max_length: 32 })).toBeGreaterThan(2 * small.activations_bytes); // attention grows with the square
  expect(await activations({ dropout: 0.1 })).toBeGreaterThan(1.05 * small.activations_bytes);
  const deep = { config: { num_hidden_layers: 6 } };
  const [kept, recomputed] = await Promise.all([false, true].map((recompute) => estimated({ model: deep, options: { recompute } })));
  expect(recomputed!.memory.activations_bytes).toBeLessThan(0.7 * kept!.memory.activations_bytes);
});

test("frozen matrices are counted as they are stored, and again for each product that they are laid out for", async () => {
  const matrices = 2 * (4 * 16 * 16 + 2 * 16 * 24);
  const { memory: float } = await estimated();
  const { memory: q8 } = await estimated({ options: { base_dtype: "q8" } });
  const { plan, memory: frugal } = await estimated({ options: { recompute: true } });
  expect(plan.use).toBe("inference");
  expect(float.laid_out_bytes).toBeGreaterThan(4 * 1.5 * matrices);
  expect(float.laid_out_bytes).toBeLessThan(4 * 2.5 * matrices);
  expect([frugal.laid_out_bytes, q8.laid_out_bytes < 4 * matrices]).toEqual([0, true]);
  expect(float.weights_bytes - q8.weights_bytes).toBeGreaterThan(2 * matrices - 1500); // two bytes in place of four, with scales
  expect(float.reading_bytes).toBe(0);
  expect(q8.reading_bytes).toBeGreaterThanOrEqual(4 * matrices); // made from float32 numbers, which are left behind
});

test("a method that trains all weights of linear layers leaves nothing to store in 8 bits", async () => {
  const { plan } = await estimated({ method: "full", options: { base_dtype: "q8" } });
  expect(plan.base_dtype).toBe("f32");
});

test("a loss row for each token of a language model, for some where tokens are covered up, for each text where the head reads one", async () => {
  const rows = async (asked: Asked): Promise<number> => (await estimated(asked)).plan.sizes.L!;
  expect(await rows({ model: llama, task: "text-generation" })).toBe(4 * 16);
  expect(await rows({ model: bert, task: "fill-mask" })).toBe(Math.ceil(0.15 * 4 * 16));
  expect(await rows({})).toBe(4);
});

test("virtual tokens are places in the batch, but no ids and no loss rows", async () => {
  const { plan } = await estimated({ model: llama, task: "text-generation", method: "prompt", options: { max_length: 10 } });
  expect(plan.sizes).toEqual({ B: 4, S: 30, A: 4, W: 30, T: 120, R: 40, L: 40 });
});

test("a budget of tokens takes the place of the batch size, and no text is longer", async () => {
  const sizes = async (max_tokens_per_batch: number): Promise<unknown> =>
    (await estimated({ options: { max_tokens_per_batch } })).plan.sizes;
  expect(await sizes(40)).toMatchObject({ B: 2, S: 16, T: 32 });
  expect(await sizes(12)).toMatchObject({ B: 1, S: 12, T: 12 });
});
