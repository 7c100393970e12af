import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { directory } from "../src/io/directory.js";
import { openSafetensors } from "../src/io/safetensors.js";
import { isPeft } from "../src/methods/index.js";
import { type Adapter, loadAdapter } from "../src/programs/adapter.js";
import { type BaseModel, openBaseModel } from "../src/programs/base-model.js";
import { nodeRuntime } from "../src/runtime/node.js";
import { learningRateAt } from "../src/train/schedule.js";
import { farthest, type TenSteps, trainTenSteps } from "./ten-steps.fixture.js";
import { jsonBytes, overlay } from "./tiny-model.fixture.js";

const golden = fileURLToPath(new URL("golden/lora-losses/", import.meta.url));

/** expected.json, as golden/README.md describes it. */
interface Golden extends TenSteps {
  readonly num_labels: number;
  readonly losses: readonly number[];
  readonly grad_norms: readonly number[];
  readonly learning_rates: readonly number[];
  readonly final_loss: number;
  readonly decayed: readonly string[];
  readonly not_decayed: readonly string[];
  readonly noise: readonly string[];
}

const runtime = nodeRuntime({ threads: 1 });
let model: BaseModel;
beforeAll(async () => {
  const tokenizer = jsonBytes({ model: { type: "WordPiece", unk_token: "[UNK]", vocab: { "[UNK]": 0 } } });
  model = await openBaseModel(overlay(directory(join(golden, "base")), { "tokenizer.json": tokenizer }), { id: "base", runtime });
});
afterAll(() => runtime.close());

const variants = readdirSync(golden).filter((name) => name !== "base");

it("has all golden variants", () => {
  expect(variants).toEqual([
    "accumulation",
    "all-linear",
    "bias-all",
    "embeddings",
    "embeddings-dora",
    "query-value",
    "regression",
    "vera",
  ]);
});

describe.each(variants)("ten steps of PEFT's %s", (variant) => {
  const folder = join(golden, variant);
  const expected = JSON.parse(readFileSync(join(folder, "expected.json"), "utf8")) as Golden;
  const { training } = expected;
  let adapter: Adapter;
  let keyOf: (path: string) => string;
  let ours: Awaited<ReturnType<typeof trainTenSteps>>;

  beforeAll(async () => {
    adapter = await loadAdapter(model, directory(join(folder, "initial")));
    const { method, plan } = adapter.attachment;
    if (!isPeft(method)) throw new Error("these files are PEFT's");
    const { key } = method.files;
    keyOf = (path) => key(path, plan);
    ours = await trainTenSteps(model, adapter, expected);
  });

  it("have the same losses and norms", () => {
    const tolerance = variant === "regression" ? 1e-4 : 2e-5;
    expect(farthest(ours.losses, expected.losses)).toBeLessThan(tolerance);
    expect(Math.abs(ours.finalLoss - expected.final_loss)).toBeLessThan(tolerance);
    expect(
      farthest(
        ours.norms.map((norm, i) => norm / expected.grad_norms[i]!),
        expected.grad_norms.map(() => 1),
      ),
    ).toBeLessThan(1e-5);
  });

  it("have the same learning rates", () => {
    const { lr_scheduler_type: type } = training;
    const rates = expected.learning_rates.map((_, step) => learningRateAt(step, { type, ...training }));
    expect(farthest(rates, expected.learning_rates)).toBeLessThan(1e-12);
  });

  it("start from the same gradients", async () => {
    const wanted = await openSafetensors(directory(folder), "gradients.safetensors");
    expect([...ours.gradients.keys()].map(keyOf).sort()).toEqual([...wanted.tensors.keys()].sort());
    for (const [path, gradient] of ours.gradients) {
      if (expected.noise.includes(keyOf(path))) continue;
      expect(farthest(gradient, (await wanted.readFloat32(keyOf(path))).data), path).toBeLessThan(2e-5);
    }
  });

  it("end in the same values", async () => {
    const wanted = await openSafetensors(directory(join(folder, "final")), "adapter_model.safetensors");
    for (const [path, tensor] of adapter.params) {
      const target = await wanted.readFloat32(keyOf(path));
      expect(tensor.shape, path).toEqual(target.shape);
      if (!expected.noise.includes(keyOf(path))) expect(farthest(tensor.data, target.data), path).toBeLessThan(2e-5);
    }
    const junk = /\.(original_module|modules_to_save)\./;
    expect([...adapter.params.keys()].map(keyOf).sort()).toEqual([...wanted.tensors.keys()].filter((key) => !junk.test(key)).sort());
  });

  it("decay the same parameters", () => {
    const keys = (decay: boolean) => ours.trained.flatMap((leaf) => (leaf.decay === decay ? [keyOf(leaf.path)] : [])).sort();
    expect(keys(true)).toEqual([...expected.decayed].sort());
    expect(keys(false)).toEqual([...expected.not_decayed].sort());
  });
});
