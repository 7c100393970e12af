import type { Tensor } from "../core/tensor.js";
import { writeZip } from "./zip-write.js";

/**
 * Float32 tensors as `torch.save` writes a dict of them: an uncompressed zip with a pickle (protocol 2) of the names, shapes and strides, and a
 * file for each storage. `torch.load(…, weights_only=True)` reads it.
 */
export function writeTorch(tensors: Iterable<readonly [name: string, tensor: Tensor<"float32">]>): Uint8Array<ArrayBuffer> {
  const pickle = new Pickle();
  const storages: { readonly name: string; readonly bytes: Uint8Array }[] = [];
  pickle.opcodes("\x80\x02}("); // protocol 2, an empty dict, a mark
  for (const [name, { data, shape }] of tensors) {
    pickle.text(name);
    pickle.global("torch._utils", "_rebuild_tensor_v2");
    pickle.opcodes("((");
    pickle.text("storage");
    pickle.global("torch", "FloatStorage");
    pickle.text(String(storages.length));
    pickle.text("cpu");
    pickle.int(data.length);
    pickle.opcodes("tQ"); // the storage's tuple is a persistent id
    pickle.int(0);
    pickle.ints(shape);
    pickle.ints(shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1)));
    pickle.opcodes("\x89"); // requires no gradient
    pickle.global("collections", "OrderedDict");
    pickle.opcodes(")RtR"); // no hooks: an empty OrderedDict; then the tensor itself
    storages.push({ name: `archive/data/${storages.length}`, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) });
  }
  pickle.opcodes("u.");
  const text = (content: string): Uint8Array => new TextEncoder().encode(content);
  return writeZip([
    { name: "archive/data.pkl", bytes: pickle.bytes() },
    { name: "archive/byteorder", bytes: text("little") },
    ...storages,
    { name: "archive/version", bytes: text("3\n") },
  ]);
}

/** Bytes of a pickle, opcode by opcode. */
class Pickle {
  readonly #bytes: number[] = [];

  bytes(): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(this.#bytes);
  }

  /** Opcodes, one character each. */
  opcodes(codes: string): void {
    for (const code of codes) this.#bytes.push(code.charCodeAt(0));
  }

  global(module: string, name: string): void {
    this.opcodes(`c${module}\n${name}\n`);
  }

  text(value: string): void {
    const encoded = new TextEncoder().encode(value);
    this.opcodes("X");
    this.#uint32(encoded.length);
    this.#bytes.push(...encoded);
  }

  int(value: number): void {
    this.opcodes("J");
    this.#uint32(value);
  }

  ints(values: readonly number[]): void {
    this.opcodes("(");
    for (const value of values) this.int(value);
    this.opcodes("t");
  }

  #uint32(value: number): void {
    this.#bytes.push(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, (value >>> 24) & 0xff);
  }
}
