import { nearest, WeightError } from "../errors.js";
import type { Files } from "./files.js";
import { isRecord, quote, readJson } from "./json.js";
import { openSafetensors, type SafetensorsFile, throwProblems } from "./safetensors.js";
import type { StoredTensor, TensorSource } from "./tensor-source.js";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const DOWNLOAD = "Index and shards must come from the same revision: download them again.";
/** Formats that are recognised only to say what to do about them. */
const PICKLED = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/**
 * The weights of a model folder as Hugging Face's `from_pretrained` finds them: `model.safetensors`, else the shards that
 * `model.safetensors.index.json` names. Headers are read now, tensors when asked for. Throws WeightError when there is neither, or when
 * index and shards disagree (all disagreements listed).
 */
export async function openWeights(files: Files): Promise<TensorSource> {
  if ((await files.size(SINGLE)) !== undefined) return openSafetensors(files, SINGLE);
  if ((await files.size(INDEX)) !== undefined) return openShards(files);
  for (const name of PICKLED) {
    if ((await files.size(name)) === undefined) continue;
    throw new WeightError(
      `${files.origin}: no ${SINGLE} and no ${INDEX}; ${name} is there, but pickled weights can run code and are not read`,
      {
        hint: "Convert once: python -c \"from transformers import AutoModel as M; M.from_pretrained('FOLDER').save_pretrained('FOLDER')\", or use https://huggingface.co/spaces/safetensors/convert.",
      },
    );
  }
  throw new WeightError(`${files.origin}: no weights: looked for ${SINGLE} and ${INDEX}`, {
    hint: "Name the folder or the hub model that holds the weights beside config.json.",
  });
}

async function openShards(files: Files): Promise<TensorSource> {
  const where = `${files.origin}/${INDEX}`;
  const shardOf = readWeightMap(await readJson(files, INDEX, { uniqueKeys: true }), where);
  const names = [...new Set(shardOf.values())];
  const sizes = await Promise.all(names.map((name) => files.size(name)));
  throwProblems(
    where,
    names.filter((_, i) => sizes[i] === undefined).map((name) => `${quote(name)} is missing in ${files.origin}`),
    DOWNLOAD,
  );
  const opened = await Promise.all(names.map(async (name) => [name, await openSafetensors(files, name)] as const));
  const shards = new Map<string, SafetensorsFile>(opened);

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
      const near = nearest(tensor, tensors.keys());
      throw new WeightError(`${where}: no tensor ${quote(tensor)} among its ${tensors.size}`, { hint: near && `Did you mean ${near}?` });
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
