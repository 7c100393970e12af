import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TinyModelOptions, tinyModelFiles } from "./tiny-model.fixture.js";

/** Writes a tiny model to a folder, which is made, and returns the folder. */
export async function writeTinyModel(folder: string, options?: TinyModelOptions): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (const [name, bytes] of Object.entries(tinyModelFiles(options))) await writeFile(join(folder, name), bytes);
  return folder;
}
