import { sizeOf, type Tensor } from "../core/tensor.js";

/** A value that a GGUF file's metadata may get here. */
export type WrittenField = string | { readonly u32: number } | { readonly f32: number };

const ALIGNMENT = 32;

/**
 * A GGUF file, version 3, of float32 tensors (ggml's docs/gguf.md). Shapes are row-major as everywhere here; the file states them the other way
 * round.
 */
export function writeGguf(
  metadata: Readonly<Record<string, WrittenField>>,
  tensors: ReadonlyMap<string, Tensor<"float32">>,
): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const number = (bytes: number, write: (view: DataView) => void): void => {
    const part = new Uint8Array(bytes);
    write(new DataView(part.buffer));
    parts.push(part);
  };
  const u32 = (value: number): void => number(4, (view) => view.setUint32(0, value, true));
  const u64 = (value: number): void => number(8, (view) => view.setBigUint64(0, BigInt(value), true));
  const text = (value: string): void => {
    const bytes = new TextEncoder().encode(value);
    u64(bytes.byteLength);
    parts.push(bytes);
  };
  const padded = (size: number): number => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

  parts.push(new TextEncoder().encode("GGUF"));
  u32(3);
  u64(tensors.size);
  u64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    text(key);
    if (typeof value === "string") {
      u32(8);
      text(value);
    } else if ("u32" in value) {
      u32(4);
      u32(value.u32);
    } else {
      u32(6);
      number(4, (view) => view.setFloat32(0, value.f32, true));
    }
  }
  let offset = 0;
  for (const [name, { shape }] of tensors) {
    text(name);
    u32(shape.length);
    for (const dim of [...shape].reverse()) u64(dim);
    u32(0); // F32
    u64(offset);
    offset += padded(4 * sizeOf(shape));
  }
  const header = parts.reduce((size, part) => size + part.byteLength, 0);
  const file = new Uint8Array(padded(header) + offset);
  let at = 0;
  for (const part of parts) {
    file.set(part, at);
    at += part.byteLength;
  }
  at = padded(header);
  for (const { data } of tensors.values()) {
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += padded(data.byteLength);
  }
  return file;
}
