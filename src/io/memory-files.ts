import { FileError, nearest } from "../errors.js";
import type { Files } from "./files.js";

/**
 * Files held in memory: what a page got from a file picker, or what a test made.
 * `origin` is what messages call the set; reads copy, so callers may keep or change what they get.
 */
export function memoryFiles(origin: string, contents: Readonly<Record<string, Uint8Array>>): Files {
  const byName = new Map(Object.entries(contents));
  return {
    origin,
    async size(name) {
      return byName.get(name)?.byteLength;
    },
    async read(name, start = 0, end) {
      const bytes = byName.get(name);
      if (!bytes) {
        const near = nearest(name, byName.keys());
        throw new FileError(`${origin}/${name}: no such file`, { hint: near && `Did you mean ${near}?` });
      }
      return new Uint8Array(bytes.subarray(...byteRange(`${origin}/${name}`, bytes.byteLength, start, end)));
    },
  };
}

/** The range `[start, end)` of a file of `size` bytes, `end` defaulting to its end. Throws FileError when the file has no such range. */
export function byteRange(where: string, size: number, start: number, end: number = size): [start: number, end: number] {
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || end < start || end > size) {
    throw new FileError(`${where}: asked for bytes ${start} to ${end} of a file of ${size} bytes`);
  }
  return [start, end];
}
