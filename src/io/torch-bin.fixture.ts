import { writeZip } from "./zip-write.js";

/** Part of a pickle: a text is opcodes and their arguments (latin1), a number is a byte, `{ text }` is a text with its opcode. */
export type PicklePart = string | number | { readonly text: string };

/** Bytes of a pickle, for tests. */
export function pickle(...parts: PicklePart[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    parts.flatMap((part) => {
      if (typeof part === "number") return [part];
      if (typeof part === "string") return [...Buffer.from(part, "latin1")];
      const bytes = Buffer.from(part.text);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [0x58, ...length, ...bytes];
    }),
  );
}

/** A tensor as `_rebuild_tensor_v2` gets it; sizes, strides and offset below 256. */
export interface PickledTensor {
  readonly key?: string;
  readonly type?: string;
  readonly count: number;
  readonly offset?: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

/** The pickle of one tensor, without the protocol and the stop. */
export function pickledTensor({
  key = "0",
  type = "FloatStorage",
  count,
  offset = 0,
  shape,
  strides,
}: PickledTensor): Uint8Array<ArrayBuffer> {
  const ints = (values: readonly number[]) => ["(", ...values.flatMap((value) => ["K", value]), "t"];
  return pickle(
    "ctorch._utils\n_rebuild_tensor_v2\n((",
    { text: "storage" },
    `ctorch\n${type}\n`,
    { text: key },
    { text: "cpu" },
    "K",
    count,
    "tQK",
    offset,
    ...ints(shape),
    ...ints(strides),
    "\x89ccollections\nOrderedDict\n)RtR",
  );
}

/** The pickle of a dict of tensors. */
export function pickledDict(tensors: Readonly<Record<string, PickledTensor | Uint8Array>>): Uint8Array<ArrayBuffer> {
  const items = Object.entries(tensors).flatMap(([name, value]) => [
    ...pickle({ text: name }),
    ...(value instanceof Uint8Array ? value : pickledTensor(value)),
  ]);
  return Uint8Array.from([...pickle("\x80\x02}("), ...items, ...pickle("u.")]);
}

/** A torch file of a pickle and storages. */
export function torchFile(
  data: Uint8Array,
  storages: Readonly<Record<string, Uint8Array>> = {},
  more: Readonly<Record<string, string>> = { byteorder: "little", version: "3\n" },
): Uint8Array<ArrayBuffer> {
  return writeZip([
    { name: "x/data.pkl", bytes: data },
    ...Object.entries(storages).map(([key, bytes]) => ({ name: `x/data/${key}`, bytes })),
    ...Object.entries(more).map(([name, content]) => ({ name: `x/${name}`, bytes: new TextEncoder().encode(content) })),
  ]);
}

/** Float32 numbers as a storage's bytes. */
export function floats(...values: readonly number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Float32Array.from(values).buffer);
}
