import type { Files } from "../io/files.js";
import { floatBytes } from "../io/float-bytes.js";
import { isRecord } from "../io/json.js";
import { type StoredFloat, storedBytes, streamSafetensors } from "../io/safetensors.js";
import type { StoredTensor, TensorSource } from "../io/tensor-source.js";
import type { Task } from "../tasks/task.js";
import type { TaskHead } from "./adapted-model.js";
import type { BaseModel } from "./base-model.js";

/** How weights are stored: as the base model stores them, or all in one dtype. */
export const weightDtypes = ["base", "f32", "f16", "bf16"] as const;
export type WeightDtype = (typeof weightDtypes)[number];

const stored = { f32: "F32", f16: "F16", bf16: "BF16" } as const;
const torchNames = { f32: "float32", f16: "float16", bf16: "bfloat16" } as const;

/** What a file holds: bytes, or pieces of them that are made as they are asked for. */
export type FileContent = Uint8Array | AsyncIterable<Uint8Array>;

/** What a checkpoint is made of. */
export interface ModelFilesOptions {
  /** Weights by the names under which they are written. */
  readonly weights: TensorSource;
  /** config.json, without what the dtype adds. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly dtype: WeightDtype;
  /** Weights above this many bytes are split into shards that have no more, unless one tensor alone has; 5 GB by default. */
  readonly maxShardBytes?: number;
}

/** The names of the files beside config.json and the weights that `from_pretrained` reads. */
const companions = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.txt",
  "vocab.json",
  "merges.txt",
  "sentencepiece.bpe.model",
  "spiece.model",
  "tokenizer.model",
  "chat_template.jinja",
  "generation_config.json",
];

/**
 * The files of an ordinary checkpoint, as transformers' `save_pretrained` writes them: config.json, safetensors (with an index where there are
 * shards) and the model's own tokenizer. Weights are computed while their file is read. Throws what reading the weights throws.
 */
export async function modelFiles(
  model: BaseModel,
  { weights, config, dtype, maxShardBytes = 5e9 }: ModelFilesOptions,
): Promise<Readonly<Record<string, FileContent>>> {
  const json = dtype === "base" ? config : { ...config, [dtypeField(config)]: torchNames[dtype] };
  return {
    "config.json": jsonFile(json),
    ...weightFiles(storedWeights(model, weights, dtype), weights, maxShardBytes),
    ...(await copied(model.files)),
  };
}

/** How each weight is stored; one that the base model lacks as its first one is. */
export function storedWeights(model: BaseModel, { tensors }: TensorSource, dtype: WeightDtype): ReadonlyMap<string, StoredTensor> {
  const first = [...tensors.keys()].flatMap((path) => model.dtype(path) ?? [])[0] ?? "F32";
  return new Map(
    [...tensors].map(([path, { shape }]) => [path, { shape, dtype: dtype === "base" ? (model.dtype(path) ?? first) : stored[dtype] }]),
  );
}

function weightFiles(
  tensors: ReadonlyMap<string, StoredTensor>,
  source: TensorSource,
  maxShardBytes: number,
): Readonly<Record<string, FileContent>> {
  const read = async (path: string): Promise<Uint8Array> =>
    floatBytes(tensors.get(path)!.dtype as StoredFloat, (await source.readFloat32(path)).data, path);
  const shards: Map<string, StoredTensor>[] = [];
  let room = 0;
  for (const [path, tensor] of [...tensors].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const bytes = storedBytes(tensor);
    if (shards.length === 0 || bytes > room) {
      shards.push(new Map());
      room = maxShardBytes;
    }
    shards.at(-1)!.set(path, tensor);
    room -= bytes;
  }
  if (shards.length <= 1) return { "model.safetensors": streamSafetensors(tensors, read) };
  const digits = (n: number): string => String(n).padStart(5, "0");
  const named = shards.map((shard, i) => [`model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`, shard] as const);
  return {
    ...Object.fromEntries(named.map(([name, shard]) => [name, streamSafetensors(shard, read)])),
    "model.safetensors.index.json": jsonFile({
      metadata: { total_size: [...tensors.values()].reduce((total, tensor) => total + storedBytes(tensor), 0) },
      weight_map: Object.fromEntries(named.flatMap(([name, shard]) => [...shard.keys()].map((path) => [path, name]))),
    }),
  };
}

/** transformers 5 writes `dtype`, transformers 4 `torch_dtype`. */
function dtypeField(config: Readonly<Record<string, unknown>>): string {
  return "torch_dtype" in config ? "torch_dtype" : "dtype";
}

async function copied(files: Files): Promise<Readonly<Record<string, Uint8Array>>> {
  const found: Record<string, Uint8Array> = {};
  for (const name of companions) if ((await files.size(name)) !== undefined) found[name] = await files.read(name);
  return found;
}

function jsonFile(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
}

/** The name of transformers' class for a model with a kind of head: `modelClass(model, "ForSequenceClassification")`. */
export function modelClass({ family, json }: BaseModel, headClass: string): string {
  const type = isRecord(json) ? String(json.model_type) : family.model_types[0]!;
  return `${family.classes[type] ?? ""}${headClass}`;
}

/** The end of the name of transformers' class for a model with a task's head. */
export function headClass({ family }: BaseModel, task: Task): string {
  return family.heads[task.name]?.headClass ?? task.headClass;
}

/** config.json of the model with a task's head: its class and its labels. */
export function configWithHead(model: BaseModel, { task, target }: TaskHead): Readonly<Record<string, unknown>> {
  const labels = target.kind === "classes" ? target.labels : ["LABEL_0"];
  return {
    ...withoutHead(model.json),
    architectures: [modelClass(model, headClass(model, task))],
    id2label: Object.fromEntries(labels.map((label, id) => [id, label])),
    label2id: Object.fromEntries(labels.map((label, id) => [label, id])),
  };
}

/** config.json of the model without a head. */
export function configWithoutHead(model: BaseModel): Readonly<Record<string, unknown>> {
  return { ...withoutHead(model.json), architectures: [modelClass(model, "Model")] };
}

function withoutHead(json: unknown): Readonly<Record<string, unknown>> {
  const { id2label: _, label2id: __, num_labels: ___, problem_type: ____, ...rest } = isRecord(json) ? json : {};
  return rest;
}
