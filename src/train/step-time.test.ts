import { afterAll, expect, test } from "vitest";
import { openTinyModel } from "../../test/tiny-model.fixture.js";
import { methodChoice } from "../methods/index.js";
import { attach } from "../programs/adapted-model.js";
import { BASE_DTYPES } from "../programs/base-dtype.js";
import { vocabularyOf } from "../programs/base-model.js";
import { noRuntime } from "../programs/inspect.js";
import { type BatchOptions, type TrainingPlan, trainingPlan } from "../programs/training-plan.js";
import { nodeRuntime } from "../runtime/node.js";
import { taskNamed } from "../tasks/index.js";
import { predictStepTime } from "./step-time.js";

const runtime = nodeRuntime({ threads: 1 });
afterAll(() => runtime.close());

async function planned(options: Partial<BatchOptions>): Promise<TrainingPlan> {
  const model = await openTinyModel(noRuntime, { family: "llama", task: "text-generation", labels: 1 });
  const head = { task: taskNamed("text-generation"), target: { kind: "tokens", vocabulary: vocabularyOf(model) }, base: true } as const;
  const { method, preset } = methodChoice("lora");
  const attachment = attach(model, head, method, method.config.parse({ ...preset }), "user");
  const base = { batch_size: 2, max_length: 8, max_tokens_per_batch: null, dropout: "off", recompute: false, base_dtype: "f32" } as const;
  return trainingPlan(model, head, [attachment], { ...base, ...options });
}

// The model's runtime refuses to keep anything: whatever is timed is timed without its weights.
test.each(BASE_DTYPES)("times every kind of product of a step with %s matrices, without reading a weight", async (base_dtype) => {
  const time = await predictStepTime(runtime, await planned({ base_dtype }));
  expect(time.products_seconds).toBeGreaterThan(0);
  expect(time.other_seconds).toBeGreaterThan(0);
  expect(time.noise_seconds).toBe(0);
  expect(time.step_seconds).toBe(time.products_seconds + time.other_seconds + time.optimizer_seconds);
});

test("dropout's noise is drawn, and a layer that is recomputed is counted twice", async () => {
  const plain = await predictStepTime(runtime, await planned({}));
  const both = await predictStepTime(runtime, await planned({ dropout: 0.1, recompute: true }));
  expect(both.noise_seconds).toBeGreaterThan(0);
  expect(both.product_operations).toBeGreaterThan(1.1 * plain.product_operations);
});
