import { stat } from "node:fs/promises";
import * as z from "zod";
import { parseOptions } from "../core/options.js";
import { FileError } from "../errors.js";
import { modelPlaces } from "../io/catalogue.js";
import { ggufAdapter } from "../programs/gguf-adapter.js";
import { checkFolderOf, writeWhole } from "./folder.js";
import { type LoadedModel, type LoadOptions, loadAdapter, loadModel } from "./load-model.js";

/** What `exportAdapter` may be told. */
export const exportOptions = z.strictObject({
  model: z.string().describe(`the adapter's base model: ${modelPlaces}`),
  adapter: z.string().describe("adapter: a folder or a hub id"),
  format: z.enum(["gguf"]).default("gguf").describe("gguf: a LoRA for llama.cpp and what is built on it"),
  out: z.string().describe("the file to write, which must not be there yet"),
});

/** An adapter in another program's format. */
export interface Exported {
  readonly out: string;
  readonly format: string;
  readonly architecture: string;
  /** Adapted tensors by their names there. */
  readonly layers: readonly string[];
  readonly bytes: number;
}

/**
 * Writes an adapter for another program: LoRA as llama.cpp's GGUF adapter. Throws as `loadModel` and `loadAdapter` do, ConfigError that lists
 * what the format cannot express, and FileError for a file that is there.
 */
export async function exportAdapter({
  model: given,
  onProgress,
  signal,
  ...rest
}: Omit<z.input<typeof exportOptions>, "model"> & { readonly model: string | LoadedModel } & Pick<
    LoadOptions,
    "onProgress" | "signal"
  >): Promise<Exported> {
  const job = parseOptions("option", exportOptions, { ...rest, model: typeof given === "object" ? given.id : given });
  if ((await stat(job.out).catch(() => undefined)) !== undefined)
    throw new FileError(`${job.out} is there already`, { hint: "give --out another name" });
  await checkFolderOf(job.out);
  const opened = typeof given === "object" ? undefined : await loadModel(job.model, { onProgress, signal });
  try {
    const model = typeof given === "object" ? given : opened!;
    const { bytes, layers, architecture } = ggufAdapter(model, await loadAdapter(model, job.adapter, { onProgress, signal }));
    await writeWhole(job.out, bytes);
    return { out: job.out, format: job.format, architecture, layers, bytes: bytes.byteLength };
  } finally {
    await opened?.close();
  }
}
