import { FileError } from "../errors.js";
import type { Files } from "../io/files.js";
import { readJson } from "../io/json.js";
import type { PeftMethod } from "../methods/method.js";
import { isHubConfig, readHubAdapter } from "./adapterhub-format.js";
import { configFile, readPeftAdapter } from "./peft-format.js";
import type { PublishedAdapter } from "./published.js";
import { readSetup, setupFile } from "./setup-format.js";

/**
 * Reads an adapter in whichever format its files have: a composition (adapter_setup.json), AdapterHub's or Hugging Face PEFT's; `own` are a
 * program's own methods. Throws FileError, ConfigError or WeightError.
 */
export async function readAdapter(files: Files, own: readonly PeftMethod[] = []): Promise<PublishedAdapter> {
  if ((await files.size(setupFile)) !== undefined) return readSetup(files);
  if ((await files.size(configFile)) === undefined) {
    throw new FileError(`${files.origin} has no ${configFile}`, { hint: "an adapter needs adapter_config.json and its weights beside it" });
  }
  return isHubConfig(await readJson(files, configFile)) ? readHubAdapter(files) : readPeftAdapter(files, own);
}
