import type { Tensor } from "../core/tensor.js";
import { writeSafetensors } from "./safetensors.js";
import { writeTorch } from "./torch-bin-write.js";

/** The same tensors in each of some files: as torch writes them where a name ends in `.bin`, else as safetensors. */
export function writeTensors(
  names: readonly string[],
  tensors: readonly (readonly [name: string, tensor: Tensor<"float32">])[],
): Readonly<Record<string, Uint8Array>> {
  return Object.fromEntries(names.map((name) => [name, name.endsWith(".bin") ? writeTorch(tensors) : writeSafetensors(tensors)] as const));
}
