import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { f32 } from "../src/core/tensor.js";
import { packTexts } from "../src/data/collate.js";
import { directory } from "../src/io/directory.js";
import { openSafetensors } from "../src/io/safetensors.js";
import { methodNamed } from "../src/methods/index.js";
import { attach, type TaskHead, trainGraph } from "../src/programs/adapted-model.js";
import { withoutAdapter } from "../src/programs/adapter.js";
import { type BaseModel, openBaseModel } from "../src/programs/base-model.js";
import { initialParams } from "../src/programs/initial-params.js";
import { packingOf } from "../src/programs/limits.js";
import { loadProgram, type Params, paramsOf } from "../src/programs/program.js";
import { nodeRuntime } from "../src/runtime/node.js";
import type { Example } from "../src/tasks/task.js";
import { textClassification } from "../src/tasks/text-classification.js";
import { textGeneration } from "../src/tasks/text-generation.js";
import { AdamW, clipGradNorm } from "../src/train/optimizer.js";

const golden = fileURLToPath(new URL("golden/", import.meta.url));
const folder = join(golden, "method-losses");

/** expected.json, as golden/README.md describes it. */
interface Golden {
  readonly base: string;
  readonly method: string;
  readonly config: object;
  readonly optimizer: {
    readonly learning_rate: number;
    readonly betas: readonly [number, number];
    readonly eps: number;
    readonly weight_decay: number;
    readonly max_grad_norm: number;
  };
  readonly losses: readonly number[];
  readonly grad_norms: readonly number[];
  readonly trained: readonly string[];
  readonly decayed: readonly string[];
}

/** A text with its class, or a prompt of so many tokens with the completion that follows. */
interface GoldenRow {
  readonly ids: readonly number[];
  readonly label?: number;
  readonly prompt?: number;
}

const read = (name: string): readonly (readonly GoldenRow[])[] => JSON.parse(readFileSync(join(folder, name), "utf8"));
const batches = read("batches.json");
const completions = read("completions.json");
const runtime = nodeRuntime({ threads: 1 });
afterAll(() => runtime.close());

const variants = ["rslora", "dora", "pissa", "gaussian", "loraplus", "prompt-text", "p-tuning", "p-tuning-lstm", "ia3", "bitfit"];
const prefixes = ["prefix", "prefix-projection"];
const completing = ["lora", "dora", "tied", "vera", "prompt-text", "p-tuning", "p-tuning-lstm", "ia3", ...prefixes];
const languageModels = ["gpt2", "llama"];
const cases = readdirSync(folder).filter((name) => !name.endsWith(".json"));

it("has all golden cases", () => {
  const all = ["bert", "roberta", "distilbert"].flatMap((base) =>
    [...variants, ...(base === "distilbert" ? [] : prefixes)].map((variant) => `${base}-${variant}`),
  );
  const decoders = languageModels.flatMap((base) =>
    [...completing, ...(base === "gpt2" ? ["bitfit"] : [])].map((variant) => `${base}-${variant}`),
  );
  expect(cases).toEqual([...all, ...decoders].sort());
});

describe.each(cases)("ten steps of %s", (name) => {
  const expected = JSON.parse(readFileSync(join(folder, name, "expected.json"), "utf8")) as Golden;

  it("have the same losses as in Python, and train and decay the same parameters", async () => {
    const model = await openBaseModel(directory(join(golden, "peft/bases", expected.base)), { id: expected.base, runtime });
    const { losses, norms, trained } = await trainTenSteps(model, expected, await givenParams(name));
    expect(trained.map(({ path }) => path).sort()).toEqual(expected.trained);
    expect(trained.flatMap(({ path, decay }) => (decay ? [path] : [])).sort()).toEqual(expected.decayed);
    expect(farthest(losses, expected.losses)).toBeLessThan(1e-5);
    expect(farthest(norms, expected.grad_norms)).toBeLessThan(1e-4);
  });
});

async function givenParams(name: string): Promise<Params> {
  const source = await openSafetensors(directory(join(folder, name)), "initial.safetensors");
  const entries = [...source.tensors.keys()].map(async (key) => [key, await source.readFloat32(key)] as const);
  return new Map(await Promise.all(entries));
}

/** Three classes, or the model's own head over its tokens. */
function headOf(model: BaseModel): TaskHead {
  if (model.family.causal === true) return { ...withoutAdapter(model, textGeneration), base: true };
  return { task: textClassification, target: { kind: "classes", labels: ["a", "b", "c"] } };
}

function exampleOf({ ids, label, prompt }: GoldenRow): Example {
  const text = { ids: Int32Array.from(ids), typeIds: new Int32Array(ids.length), truncated: false };
  if (prompt === undefined) return { ...text, labels: [label!] };
  return { ...text, labels: ids.slice(prompt), reads: ids.slice(prompt).map((_, i) => prompt - 1 + i) };
}

/** The training step as the trainer takes it, on given batches; parameters that are not given start as the method says. */
async function trainTenSteps(model: BaseModel, { method: name, config, optimizer: options, trained: wanted }: Golden, given: Params) {
  const method = methodNamed(name);
  const head = headOf(model);
  const attachment = attach(model, head, method, method.config.parse(config), "user");
  const graph = trainGraph(model, head, [attachment], "off");
  for (const path of given.keys()) expect(wanted).toContain(path);
  const params = await initialParams(model, graph, 0, given);
  const trained = paramsOf(graph).flatMap(({ leaf }) => (leaf.trained ? [{ ...leaf, values: params.get(leaf.path)!.data }] : []));
  const optimizer = new AdamW(trained, options);
  const program = await loadProgram(model, graph);
  const losses: number[] = [];
  const norms: number[] = [];
  for (const rows of head.task === textGeneration ? completions : batches) {
    const examples = rows.map(exampleOf);
    const packed = packTexts(examples, packingOf(model, [attachment]));
    const labels = examples.reduce((count, example) => count + example.labels!.length, 0);
    const feeds = { ...packed.feeds, ...head.task.feeds(packed, examples, head.target), lossScale: f32([1 / labels], []) };
    const results = await program.run({ batch: feeds, params });
    const grads = trained.map(({ path }) => results[`grad:${path}`]!.data as Float32Array);
    losses.push(Number(results.loss!.data[0]));
    norms.push(clipGradNorm(grads, options.max_grad_norm));
    optimizer.step(grads, options.learning_rate);
  }
  await program.dispose();
  return { losses, norms, trained };
}

/** The largest relative distance between numbers at the same place. */
function farthest(actual: readonly number[], expected: readonly number[]): number {
  expect(actual.length).toBe(expected.length);
  let most = 0;
  for (const [i, value] of expected.entries()) most = Math.max(most, Math.abs(actual[i]! / value - 1)); // NaN if there is one
  return most;
}
