import { tableOf, tinyRows } from "../../test/tiny-model.fixture.js";
import { fillUniform, keyOf } from "../core/random.js";
import { named } from "../core/registry.js";
import { memoryFiles } from "../io/memory-files.js";
import { openSafetensors, type RawTensor, writeSafetensors } from "../io/safetensors.js";
import { compositions, methodChoice } from "../methods/index.js";
import { attach, forwardGraph, type TaskHead } from "../programs/adapted-model.js";
import { adapterFiles } from "../programs/adapter-files.js";
import type { BaseModel } from "../programs/base-model.js";
import { compose, type NamedAdapter } from "../programs/compose.js";
import { initialParams } from "../programs/initial-params.js";
import { predictor } from "../programs/pipeline.js";
import type { Params } from "../programs/program.js";
import { textClassification } from "../tasks/text-classification.js";

/** An adapter's files by name. */
export type Written = Readonly<Record<string, Uint8Array>>;

/** Three classes. */
export const hubHead: TaskHead = { task: textClassification, target: { kind: "classes", labels: ["card", "film", "hats"] } };

/** An adapter layer with random values in all of its tensors, and with a head. `kind` is a method or preset. */
export async function hubAdapter(model: BaseModel, kind: string, fields: object = {}, head = hubHead): Promise<NamedAdapter["adapter"]> {
  const { method, preset } = methodChoice(kind);
  const attachment = attach(model, head, method, method.config.parse({ ...preset, ...fields }), "user");
  return { head, attachment, params: randomised(await initialParams(model, forwardGraph(model, head, [attachment]), 0), kind) };
}

/** A composition of adapters, with random values in its own parameters and a head. */
export async function hubComposition(
  model: BaseModel,
  type: string,
  fields: object,
  held: readonly NamedAdapter[],
): Promise<NamedAdapter["adapter"]> {
  const method = named(compositions, "composition", type, ({ name }) => name);
  const bare = held.map(({ name, adapter }) => ({ name, adapter: { ...adapter, params: withoutHead(adapter.params) } }));
  const { attachment, params } = compose(model, hubHead, method, method.config.parse(fields), bare);
  const fresh = randomised(await initialParams(model, forwardGraph(model, hubHead, [attachment]), 0), type);
  return { head: hubHead, attachment, params: new Map([...fresh, ...params]) };
}

function withoutHead(params: Params): Params {
  return new Map([...params].filter(([path]) => /(adapters|adapter_fusion_layer)\./.test(path)));
}

function randomised(params: Params, label: string): Params {
  for (const [path, { data }] of params) fillUniform(data, keyOf(3, label, path), -1, 1);
  return params;
}

/** What an adapter's folder holds. */
export function filesOf(model: BaseModel, adapter: NamedAdapter["adapter"]): Promise<Written> {
  return adapterFiles(model, adapter);
}

/** A JSON file's content. */
export function jsonOf(files: Written, name: string): Record<string, unknown> {
  return JSON.parse(new TextDecoder().decode(files[name]));
}

/** Names and shapes of the tensors in a file. */
export async function shapesOf(files: Written, name: string): Promise<Readonly<Record<string, readonly number[]>>> {
  const { tensors } = await openSafetensors(memoryFiles("adapter", files), name);
  return Object.fromEntries([...tensors].map(([key, { shape }]) => [key, shape]));
}

/** The files with the tensors of one of them changed. */
export async function withTensors(files: Written, name: string, change: (tensors: Map<string, RawTensor>) => void): Promise<Written> {
  const source = await openSafetensors(memoryFiles("adapter", files), name);
  const tensors = new Map<string, RawTensor>();
  for (const [key, stored] of source.tensors) tensors.set(key, { ...stored, bytes: await source.readBytes(key) });
  change(tensors);
  return { ...files, [name]: writeSafetensors(tensors) };
}

/** An adapter's outputs for a few texts, one after the other. */
export async function logitsOf(model: BaseModel, adapter: NamedAdapter["adapter"]): Promise<readonly number[]> {
  const ready = predictor(model, adapter);
  const outputs = await ready.run(ready.encode(tableOf(tinyRows(6).map(({ text }) => ({ text })))));
  await ready.dispose();
  return outputs.flatMap((row) => Array.from(row));
}
