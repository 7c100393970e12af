import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { f32 } from "../src/core/tensor.js";
import { packTexts } from "../src/data/collate.js";
import { memoryFiles } from "../src/io/memory-files.js";
import { methodChoice } from "../src/methods/index.js";
import { attach, forwardGraph, type TaskHead, trainGraph } from "../src/programs/adapted-model.js";
import { loadAdapter } from "../src/programs/adapter.js";
import { adapterFiles } from "../src/programs/adapter-files.js";
import type { BaseModel } from "../src/programs/base-model.js";
import { composeTrained } from "../src/programs/compose.js";
import { initialParams } from "../src/programs/initial-params.js";
import { packingOf } from "../src/programs/limits.js";
import { predictor } from "../src/programs/pipeline.js";
import { loadProgram } from "../src/programs/program.js";
import { nodeRuntime } from "../src/runtime/node.js";
import type { Runtime } from "../src/runtime/session.js";
import type { Example } from "../src/tasks/task.js";
import { textClassification } from "../src/tasks/text-classification.js";
import { type NamedFiles, train } from "../src/train/trainer.js";
import { gradcheck, moved, noise } from "./model-gradcheck.fixture.js";
import { collect, openTinyModel, type TinyFamily, tableOf, tinyFamilies, tinyOptions, tinyRows } from "./tiny-model.fixture.js";

/** What is trained on top of two adapters, or of both of them. */
const kinds = [
  { what: "an adapter on a stack of two", method: "seq_bn", fields: { reduction_factor: 4, non_linearity: "tanh" } },
  { what: "a fusion", method: "fuse", fields: { regularization: false } },
  {
    what: "a fusion that asks and adds up otherwise",
    method: "fuse",
    fields: { query_before_ln: true, residual_before: true, value: false },
  },
];
const cells = (Object.keys(tinyFamilies) as TinyFamily[]).flatMap((family) => kinds.map((kind) => ({ ...kind, family })));
const rows = tableOf(tinyRows(16));
const head: TaskHead = { task: textClassification, target: textClassification.target(rows) };

describe.each(cells)("$what × $family", ({ family, method: name, fields }) => {
  const { method, preset } = methodChoice(name);
  const config: object = method.config.parse({ ...preset, ...fields });
  let runtime: Runtime;
  let model: BaseModel;
  let examples: readonly Example[];
  let held: readonly NamedFiles[];
  beforeAll(async () => {
    runtime = nodeRuntime({ threads: 1 });
    model = await openTinyModel(runtime, { family });
    examples = rows.rows.map((_, i) => textClassification.encode(rows, i, head.target, model.tokenizer, 32));
    held = [await adapter("first", { reduction_factor: 4 }), await adapter("second", { reduction_factor: 8, scaling: "learned" })];
  });
  afterAll(() => runtime.close());

  /** An adapter layer far from its start, with a head, in files. */
  async function adapter(label: string, more: object): Promise<NamedFiles> {
    const choice = methodChoice("seq_bn");
    const attachment = attach(model, head, choice.method, choice.method.config.parse({ non_linearity: "tanh", ...more }), "user");
    const start = await initialParams(model, forwardGraph(model, head, [attachment]), 0);
    const params = new Map([...start].map(([path, tensor]) => [path, moved(tensor, noise(tensor, label, path), 0.6)] as const));
    return { name: label, files: memoryFiles(label, await adapterFiles(model, { head, attachment, params })) };
  }

  const composed = async () => {
    const adapters = await Promise.all(held.map(async (each) => ({ name: each.name, adapter: await loadAdapter(model, each.files) })));
    return composeTrained(model, head, method, config, adapters);
  };

  it("has the right gradient, by central differences of the program's loss", async () => {
    const { attachment, params } = await composed();
    await gradcheck(model, head, attachment, examples, { held: params });
  });

  it("learns, leaves its adapters as they are, and is the same after saving and loading", async () => {
    const options = tinyOptions({ max_steps: 60, warmup_ratio: 0, batch_size: 16, learning_rate: 3e-2 });
    const loop = train({ model, task: textClassification, method, config, held, rows, evalRows: rows, options, now: () => 0 });
    const { events, result } = await collect(loop);
    const losses = events.flatMap((event) => (event.event === "step" ? [event.loss] : []));
    expect(losses.at(-1)).toBeLessThan(0.7 * losses[0]!);
    const before = (await composed()).params;
    const kept = [...result.adapter.params].filter(([path]) => /^(first|second):.*adapters\./.test(path));
    expect(kept.length).toBe(2 * 2 * 4 + 2);
    for (const [path, { data }] of kept) expect(data, path).toEqual(before.get(path)!.data);

    const files = await adapterFiles(model, result.adapter);
    const loaded = await loadAdapter(model, memoryFiles("composed", files));
    const second = await adapterFiles(model, loaded);
    expect(Object.keys(second)).toEqual(Object.keys(files));
    for (const file of Object.keys(files)) expect(Buffer.compare(second[file]!, files[file]!), file).toBe(0);
    const [expected, got] = [await logitsOf(result.adapter), await logitsOf(loaded)];
    for (const [i, value] of got.entries()) expect(value).toBeCloseTo(expected[i]!, 4);
  });

  async function logitsOf(adapted: Parameters<typeof predictor>[1]): Promise<readonly number[]> {
    const ready = predictor(model, adapted);
    const outputs = await ready.run(examples);
    await ready.dispose();
    return outputs.flatMap((row) => Array.from(row));
  }
});

it("a fusion's penalty is in its gradient, 0.02·(W - I) for the whole step, and not in its loss", async () => {
  const runtime = nodeRuntime({ threads: 1 });
  const model = await openTinyModel(runtime);
  const fresh = (outputs: Parameters<typeof initialParams>[1]) => initialParams(model, outputs, 0);
  const { method: layer } = methodChoice("seq_bn");
  const attachment = attach(model, head, layer, layer.config.parse({}), "user");
  const adapter = { head, attachment, params: await fresh(forwardGraph(model, head, [attachment])) };
  const { method: fuse } = methodChoice("fuse");
  const examples = rows.rows.map((_, i) => textClassification.encode(rows, i, head.target, model.tokenizer, 32));
  const packed = packTexts(examples, packingOf(model, []));
  const batch = { ...packed.feeds, ...textClassification.feeds(packed, examples, head.target), lossScale: f32([1 / examples.length], []) };
  const path = "bert.encoder.layer.0.output.adapter_fusion_layer.value.weight";
  const gradients = async (regularization: boolean) => {
    const held = ["a", "b"].map((name) => ({ name, adapter }));
    const composed = composeTrained(model, head, fuse, fuse.config.parse({ regularization }), held);
    const graph = trainGraph(model, head, [composed.attachment], "off");
    const params = new Map([...(await fresh(graph))].map(([key, tensor]) => [key, moved(tensor, noise(tensor, key), 0.2)] as const));
    const program = await loadProgram(model, graph);
    const results = await program.run({ batch, params });
    return { W: params.get(path)!.data, loss: results.loss!.data[0], slope: results[`grad:${path}`]!.data as Float32Array };
  };
  const [penalized, free] = [await gradients(true), await gradients(false)];
  expect(penalized.loss).toBe(free.loss);
  for (const [i, w] of penalized.W.entries())
    expect(penalized.slope[i]! - free.slope[i]!).toBeCloseTo(0.02 * (w - (i % 17 === 0 ? 1 : 0)), 5);
  await runtime.close();
});
