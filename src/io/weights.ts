import { WeightError } from "../errors.js";
import type { Files } from "./files.js";
import { ggufWeights, openGgufWeights } from "./gguf-model.js";
import { isRecord, quote, readJson } from "./json.js";
import { openTensors } from "./open-tensors.js";
import { throwProblems } from "./safetensors.js";
import { missingTensor, type StoredTensor, type TensorSource } from "./tensor-source.js";

/** The weights of a model in Hugging Face layout, in the order in which `from_pretrained` looks for them: an index stands for the shards it names. */
export const weightNames: readonly string[] = [
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
  ggufWeights,
];
const DOWNLOAD = "Index and shards must come from the same revision: download them again.";

/** Whether one of `weightNames` is that of an index. */
export function isWeightIndex(name: string): boolean {
  return name.endsWith(".index.json");
}

/** The first of `weightNames` that is there. */
export async function findWeights(files: Files): Promise<string | undefined> {
  for (const name of weightNames) if ((await files.size(name)) !== undefined) return name;
  return undefined;
}

/**
 * The weights of a model folder as Hugging Face's `from_pretrained` finds them: safetensors, else torch's `.bin`, in one file or in the shards
 * that an index names, else GGUF. Headers are read now, tensors when asked for. Throws WeightError when there is neither, or when index and shards disagree
 * (all disagreements listed).
 */
export async function openWeights(files: Files): Promise<TensorSource> {
  const name = await findWeights(files);
  if (name === ggufWeights) return openGgufWeights(files, name);
  if (name !== undefined) return isWeightIndex(name) ? openShards(files, name) : openTensors(files, [name]);
  throw new WeightError(`${files.origin}: no weights: looked for ${weightNames.join(", ")}`, {
    hint: "Name the folder or the hub model that holds the weights beside config.json.",
  });
}

async function openShards(files: Files, index: string): Promise<TensorSource> {
  const where = `${files.origin}/${index}`;
  const shardOf = readWeightMap(await readJson(files, index, { uniqueKeys: true }), where);
  const names = [...new Set(shardOf.values())];
  const sizes = await Promise.all(names.map((name) => files.size(name)));
  throwProblems(
    where,
    names.filter((_, i) => sizes[i] === undefined).map((name) => `${quote(name)} is missing in ${files.origin}`),
    DOWNLOAD,
  );
  const opened = await Promise.all(names.map(async (name) => [name, await openTensors(files, [name])] as const));
  const shards = new Map<string, TensorSource>(opened);

  const problems: string[] = [];
  const tensors = new Map<string, StoredTensor>();
  for (const [tensor, shard] of shardOf) {
    const stored = shards.get(shard)?.tensors.get(tensor);
    if (stored) tensors.set(tensor, stored);
    else problems.push(`tensor ${quote(tensor)} is not in ${quote(shard)}`);
  }
  for (const [name, shard] of shards) {
    for (const tensor of shard.tensors.keys()) {
      // A tensor that no entry names is left alone, as Hugging Face does; a second copy of one that is named would be a guess.
      const owner = shardOf.get(tensor);
      if (owner !== undefined && owner !== name)
        problems.push(`tensor ${quote(tensor)} belongs to ${quote(owner)}, but ${quote(name)} has it as well`);
    }
  }
  throwProblems(where, problems, DOWNLOAD);

  return {
    tensors,
    async readFloat32(tensor) {
      const shard = shards.get(shardOf.get(tensor) ?? "");
      if (shard) return shard.readFloat32(tensor);
      throw missingTensor(where, tensor, tensors);
    },
  };
}

function readWeightMap(index: unknown, where: string): ReadonlyMap<string, string> {
  const map = isRecord(index) ? index.weight_map : undefined;
  if (!isRecord(map)) throw new WeightError(`${where}: weight_map is not an object of tensor names and file names`, { hint: DOWNLOAD });
  const problems: string[] = [];
  const shardOf = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(map)) {
    if (typeof shard === "string" && isPlainName(shard)) shardOf.set(tensor, shard);
    else problems.push(`tensor ${quote(tensor)}: ${quote(JSON.stringify(shard))} is not the plain name of a file beside the index`);
  }
  throwProblems(where, problems, DOWNLOAD);
  return shardOf;
}

function isPlainName(name: string): boolean {
  return /^[^/\\:\0]+$/.test(name) && name !== "." && name !== "..";
}
