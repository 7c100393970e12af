import { expect, test } from "vitest";
import { openTinyModel } from "../../test/tiny-model.fixture.js";
import { input } from "../core/graph.js";
import { methodNamed } from "../methods/index.js";
import { add } from "../ops/elementwise.js";
import { reshape } from "../ops/movement.js";
import { taskNamed } from "../tasks/index.js";
import { attach } from "./adapted-model.js";
import { vocabularyOf } from "./base-model.js";
import { noRuntime } from "./inspect.js";
import { estimateMemory, peakBytes } from "./memory.js";

test("estimateMemory counts a loss row for each token of a language model, and for some where tokens are covered up", async () => {
  const lora = methodNamed("lora");
  const [B, S] = [4, 16];
  const bytes = async (family: "llama" | "bert", name: "text-generation" | "fill-mask"): Promise<number> => {
    const model = await openTinyModel(noRuntime, { family, task: name, labels: 1 });
    const head = { task: taskNamed(name), target: { kind: "tokens", vocabulary: vocabularyOf(model) }, base: true } as const;
    const attachment = attach(model, head, lora, lora.config.parse({}), "user");
    return estimateMemory(model, head, [attachment], { batch_size: B, max_length: S }).activations_bytes;
  };
  const logits = (V: number): number => 4 * B * S * V;
  expect(await bytes("llama", "text-generation")).toBeGreaterThan(logits(311));
  expect(await bytes("bert", "fill-mask")).toBeLessThan(2 * logits(282));
});

const x = input("x", "float32", ["T", 4]);

test("peakBytes: values are dropped after their last use; fed ones and views cost nothing", () => {
  // a and b, then b and c, then c and d: never more than two of 10 × 4 floats at once.
  const [a] = [add(x, x)];
  const b = add(a, a);
  const c = add(b, b);
  expect(peakBytes({ d: add(c, c) }, { T: 10 })).toBe(2 * 160);
  // a lives on to the end: three at once.
  expect(peakBytes({ d: add(add(b, b), a) }, { T: 10 })).toBe(3 * 160);
  expect(peakBytes({ y: reshape(add(x, x), [4, "T"]) }, { T: 10 })).toBe(160);
});

test("estimateMemory adds up, and grows with batch and length", async () => {
  const model = await openTinyModel(noRuntime);
  const head = { task: taskNamed("text-classification"), target: { kind: "classes", labels: ["a", "b"] } } as const;
  const lora = methodNamed("lora");
  const attachment = attach(model, head, lora, lora.config.parse({}), "user");
  const at = (batch_size: number, max_length: number) => estimateMemory(model, head, [attachment], { batch_size, max_length });
  const small = at(4, 16);
  expect(small.total_bytes).toBe(small.process_bytes + small.weights_bytes + small.trained_bytes + small.activations_bytes);
  // LoRA on two layers' query and value, r 8 of 16 each way, and the head of 2·16 + 2: five copies of four bytes.
  expect(small.trained_bytes).toBe(20 * (2 * 2 * 2 * 8 * 16 + 34));
  expect(at(8, 16).activations_bytes / small.activations_bytes).toBeCloseTo(2, 1);
  expect(at(4, 32).activations_bytes).toBeGreaterThan(2 * small.activations_bytes); // attention grows with the square
});
