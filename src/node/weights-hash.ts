import { createHash } from "node:crypto";
import type { Files } from "../io/files.js";
import { readJson } from "../io/json.js";

const chunk = 8 * 1024 * 1024;

/** The sha256 of a model's weight file, or of its shards' bytes one after another in name order, as hex digits. */
export async function weightsSha256(files: Files): Promise<string> {
  const hash = createHash("sha256");
  for (const name of await weightFiles(files)) {
    const size = (await files.size(name)) ?? 0;
    for (let start = 0; start < size; start += chunk) hash.update(await files.read(name, start, Math.min(size, start + chunk)));
  }
  return hash.digest("hex");
}

async function weightFiles(files: Files): Promise<readonly string[]> {
  if ((await files.size("model.safetensors")) !== undefined) return ["model.safetensors"];
  const index = (await readJson(files, "model.safetensors.index.json")) as { weight_map: Readonly<Record<string, string>> };
  return [...new Set(Object.values(index.weight_map))].sort();
}
