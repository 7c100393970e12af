import { createHash } from "node:crypto";
import type { Files } from "../io/files.js";
import { readJson } from "../io/json.js";
import { findWeights, isWeightIndex, weightNames } from "../io/weights.js";

/**
 * The sha256 of a model's weights, as hex digits: that of its one weight file, or, for shards, that of their hex digests in name order, a
 * line each.
 */
export async function weightsSha256(files: Files): Promise<string> {
  const name = (await findWeights(files)) ?? weightNames[0]!;
  if (!isWeightIndex(name)) return fileSha256(files, name);
  const index = (await readJson(files, name)) as { readonly weight_map: Readonly<Record<string, string>> };
  const digests: string[] = [];
  for (const shard of [...new Set(Object.values(index.weight_map))].sort()) digests.push(`${await fileSha256(files, shard)}\n`);
  return createHash("sha256").update(digests.join("")).digest("hex");
}

async function fileSha256(files: Files, name: string): Promise<string> {
  return (
    files.sha256?.(name) ??
    createHash("sha256")
      .update(await files.read(name))
      .digest("hex")
  );
}
