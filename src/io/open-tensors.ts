import { FileError } from "../errors.js";
import type { Files } from "./files.js";
import { openSafetensors } from "./safetensors.js";
import type { TensorSource } from "./tensor-source.js";
import { openTorch } from "./torch-bin.js";

/** Opens the first of some weight files that is there: a torch file where its name ends in `.bin`, else safetensors. Throws FileError when none is. */
export async function openTensors(files: Files, names: readonly string[]): Promise<TensorSource> {
  for (const name of names) {
    if ((await files.size(name)) !== undefined) return name.endsWith(".bin") ? openTorch(files, name) : openSafetensors(files, name);
  }
  throw new FileError(`${files.origin} has no ${names.join(" or ")}`);
}
