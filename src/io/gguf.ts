import { f32 } from "../core/tensor.js";
import type { Files } from "./files.js";
import { dequantize } from "./gguf-dequantize.js";
import { type GgufValue, readGgufHeader } from "./gguf-header.js";
import { missingTensor, type StoredTensor, type TensorSource } from "./tensor-source.js";

/** One open GGUF file: tensors by GGUF's own names and in its own row order. Nothing but the header is held in memory. */
export interface GgufFile extends TensorSource {
  readonly metadata: ReadonlyMap<string, GgufValue>;
}

/** Opens a GGUF file by reading its header only. Throws FileError when the file is missing, WeightError that lists all faults of the header otherwise. */
export async function openGguf(files: Files, name: string): Promise<GgufFile> {
  const { metadata, tensors: entries } = await readGgufHeader(files, name);
  const tensors = new Map<string, StoredTensor>(
    [...entries].map(([tensor, { type, shape, begin, end }]) => {
      const packed = type.block > 1;
      const dtype = packed ? "F32" : (type.name as "F32" | "F16" | "BF16");
      return [tensor, { dtype, shape, ...(packed ? { packed: { type: type.name, bytes: end - begin } } : {}) }];
    }),
  );
  return {
    metadata,
    tensors,
    async readFloat32(tensor) {
      const entry = entries.get(tensor);
      if (entry === undefined) throw missingTensor(`${files.origin}/${name}`, tensor, tensors);
      return f32(dequantize(entry.type, await files.read(name, entry.begin, entry.end)), entry.shape);
    },
  };
}
