import { FileError, WeightError } from "../errors.js";
import type { Files } from "./files.js";
import { throwProblems } from "./safetensors.js";
import { readZipDirectory, type ZipSource, zipDataStart } from "./zip-directory.js";

/** An uncompressed zip archive, whose files are read in place. */
export interface StoredZip {
  /** Sizes in bytes, by name. */
  readonly sizes: ReadonlyMap<string, number>;
  /** Bytes `[start, end)` of one of its files, the whole of it by default; checksums are not looked at, as torch does. */
  read(name: string, start?: number, end?: number): Promise<Uint8Array<ArrayBuffer>>;
}

const damagedHint = "The file may be damaged or only partly downloaded: download it again.";

/** Opens an archive by its directory. Throws FileError when the file is missing, WeightError for compressed files and for what readZipDirectory refuses. */
export async function openStoredZip(files: Files, name: string): Promise<StoredZip> {
  const where = `${files.origin}/${name}`;
  const size = await files.size(name);
  if (size === undefined) throw new FileError(`${where}: no such file`);
  const source: ZipSource = {
    size,
    read: (start, end) => files.read(name, start, end),
    damaged: (why) => new WeightError(`${where} is damaged: ${why}`, { hint: damagedHint }),
  };
  const entries = await readZipDirectory(source);
  const packed = [...entries.values()].filter((entry) => entry.method !== 0 || entry.compressedSize !== entry.size);
  throwProblems(
    where,
    packed.map((entry) => `${entry.name} is compressed`),
    "torch.save compresses nothing: pack the archive again without compression.",
  );
  return {
    sizes: new Map([...entries].map(([entry, { size }]) => [entry, size])),
    async read(entry, from = 0, to) {
      const found = entries.get(entry);
      if (found === undefined) throw source.damaged(`it holds no ${entry}`);
      const end = to ?? found.size;
      if (from > end || end > found.size) throw source.damaged(`${entry} has ${found.size} bytes, asked for ${from} to ${end}`);
      const start = await zipDataStart(source, found);
      return files.read(name, start + from, start + end);
    },
  };
}
