import { isRecord, readJson } from "../io/json.js";
import type { BaseModel } from "../programs/base-model.js";

/**
 * The tokens that end a generated text: generation_config.json's `eos_token_id` (config.json's where there is no such file), one or several,
 * and the tokenizer's own end token.
 */
export async function endTokens({ files, json, tokenizer }: BaseModel): Promise<ReadonlySet<number>> {
  const own = (await files.size("generation_config.json")) === undefined ? json : await readJson(files, "generation_config.json");
  const named = isRecord(own) ? [own.eos_token_id].flat() : [];
  return new Set([...named, tokenizer.eosId].filter((id) => typeof id === "number"));
}
