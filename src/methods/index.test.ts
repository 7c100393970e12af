import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { writeTinyModel } from "../../test/tiny-folder.fixture.js";
import { collect } from "../../test/tiny-model.fixture.js";
import { ConfigError } from "../errors.js";
import { directory } from "../io/directory.js";
import { type LoadedModel, loadAdapter, loadModel } from "../node/load-model.js";
import { pipeline } from "../node/pipeline.js";
import { train } from "../node/train.js";
import { loadHeldAdapter } from "../programs/adapter.js";
import { methodChoice, methodNamed, methodOfType, methods } from "./index.js";
import { lora } from "./lora.js";
import { mul, ones, type PeftMethod, tunerFormat, z } from "./public.js";

/** A method as a program outside would write it: each sub-layer's output times a trained vector. */
const outputScale: PeftMethod<{ start: number }, null> = {
  name: "output-scale",
  config: z.strictObject({ start: z.number().default(1) }),
  presets: { halved: { start: 0.5 } },
  learningRate: 1e-2,
  plan: () => null,
  linear: ({ role, outFeatures }, { y }, p, _, { start }) =>
    role === "down" ? mul(y, p.param("output_scale", [outFeatures], start === 1 ? ones : { kind: "constant", value: start })) : y,
  files: { ...tunerFormat("OUTPUT_SCALE"), publish: (c) => c },
};

describe("a program's own methods", () => {
  it("are found by name, preset and peft_type where they are given, and nowhere else", async () => {
    expect(methodNamed("output-scale", [outputScale])).toBe(outputScale);
    expect(methodOfType("OUTPUT_SCALE", [outputScale])).toBe(outputScale);
    expect(methodChoice("halved", [outputScale])).toMatchObject({ method: outputScale, preset: { start: 0.5 } });
    expect(methodNamed("lora", [outputScale])).toBe(lora);
    for (const look of [methodNamed, methodChoice]) expect(() => look("output-scale")).toThrow(ConfigError);
    expect((await failure(() => methodNamed("output-scal", [outputScale]))).hint).toContain('did you mean "output-scale"');
    expect(methods).not.toContain(outputScale);
  });

  it.each([
    [{ name: "lora" }, '"lora"'],
    [{ presets: { dora: {} } }, '"dora"'],
    [{ name: "stack" }, '"stack"'],
    [{ files: lora.files }, '"LORA"'],
  ])("may not take another's names: %j", (change, named) => {
    expect(() => methodNamed("lora", [{ ...outputScale, ...change }])).toThrow(`two methods are called ${named}`);
  });

  it("may be those that are here already", () => {
    expect(methodNamed("lora", [lora, outputScale, outputScale])).toBe(lora);
  });
});

describe("train, loadAdapter and pipeline with a method of the program's own", () => {
  let folder: string;
  let model: LoadedModel;
  const data = new URL("../../examples/data/support-train.jsonl", import.meta.url).pathname;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "peft-own-"));
    model = await loadModel(await writeTinyModel(join(folder, "model")), { threads: 1 });
  });
  afterAll(async () => {
    await model.close();
    await rm(folder, { recursive: true });
  });

  it("agree on the adapter, and say what is amiss without it", async () => {
    const out = join(folder, "own");
    const { result } = await collect(train({ model, data, max_steps: 3, method: outputScale, set: { start: 0.9 }, out }));
    const path = "bert.encoder.layer.0.output.dense.output_scale";
    expect(result.adapter.params.get(path)!.data).not.toEqual(new Float32Array(16).fill(0.9)); // trained
    const loaded = await loadAdapter(model, out, { methods: [outputScale] });
    expect(loaded.params).toEqual(result.adapter.params);
    expect(loaded.attachment.config).toEqual({ start: 0.9 });
    const classify = await pipeline("text-classification", { model, adapter: out, methods: [outputScale] });
    expect(await classify("where is it?")).toEqual({ label: expect.any(String), score: expect.any(Number) });
    await classify.dispose();
    const error = await failure(() => loadAdapter(model, out));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toBe('peft_type "OUTPUT_SCALE" is not supported');
  });

  it("know it by name and preset too, and below another adapter", async () => {
    const out = join(folder, "preset");
    const { result } = await collect(train({ model, data, max_steps: 1, method: "halved", methods: [outputScale], out }));
    expect(result.adapter.attachment.config).toEqual({ start: 0.5 });
    const held = await loadHeldAdapter(model, directory(out), result.adapter.head, [outputScale]);
    expect(held.attachment.method).toBe(outputScale);
    await expect(loadHeldAdapter(model, directory(out), result.adapter.head)).rejects.toThrow(/"OUTPUT_SCALE" is not supported/);
  });
});
