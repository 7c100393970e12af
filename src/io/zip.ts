import { type FileHandle, open } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { crc32, createInflateRaw } from "node:zlib";
import { FileError } from "../errors.js";
import { readZipDirectory, type ZipEntry, type ZipSource, zipDataStart } from "./zip-directory.js";

/** An open zip archive; close it after use. */
export interface Zip {
  readonly entries: ReadonlyMap<string, ZipEntry>;
  /** Unpacks one file into `write`, chunk by chunk. Throws FileError when there is no such file, or its size or CRC does not agree. */
  extract(name: string, write: (chunk: Uint8Array) => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens a zip archive (a Python wheel is one) by its central directory. Stored and deflated files only, no encryption.
 * Throws FileError for anything else.
 */
export async function openZip(path: string): Promise<Zip> {
  const handle = await open(path).catch((error: unknown) => {
    throw new FileError(`cannot open ${path}`, { cause: error });
  });
  try {
    const source: ZipSource = {
      size: (await handle.stat()).size,
      read: (start, end) => bytes(handle, path, start, end - start),
      damaged: (why) => damaged(path, why),
    };
    const entries = await readZipDirectory(source);
    return {
      entries,
      async extract(name, write) {
        const entry = entries.get(name);
        if (entry === undefined) throw new FileError(`${path} holds no ${name}`);
        await extract(handle, path, entry, await zipDataStart(source, entry), write);
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Bytes a step: four times as quick as Node's 16 KiB. */
const chunkSize = 2 ** 19;

async function extract(
  handle: FileHandle,
  path: string,
  entry: ZipEntry,
  start: number,
  write: (chunk: Uint8Array) => Promise<void>,
): Promise<void> {
  const { name } = entry;
  if (entry.method !== 0 && entry.method !== 8) throw damaged(path, `${name} is packed by method ${entry.method}, not by deflate`);
  let size = 0;
  let crc = 0;
  const take = async (source: AsyncIterable<Uint8Array>): Promise<void> => {
    for await (const chunk of source) {
      size += chunk.length;
      if (size > entry.size) throw damaged(path, `${name} has more than the ${entry.size} bytes it should`);
      crc = crc32(chunk, crc);
      await write(chunk);
    }
  };
  if (entry.compressedSize > 0) {
    const packed = handle.createReadStream({ start, end: start + entry.compressedSize - 1, autoClose: false, highWaterMark: chunkSize });
    try {
      await (entry.method === 0 ? pipeline(packed, take) : pipeline(packed, createInflateRaw({ chunkSize }), take));
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : "";
      throw code.startsWith("Z_") ? damaged(path, `${name} cannot be inflated`, error) : error;
    }
  }
  if (size !== entry.size) throw damaged(path, `${name} has ${size} bytes, not ${entry.size}`);
  if (crc !== entry.crc32) throw damaged(path, `${name} has the wrong checksum (CRC-32)`);
}

async function bytes(handle: FileHandle, path: string, start: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await handle.read(buffer, 0, length, start);
  if (bytesRead < length) throw damaged(path, "it ends too early");
  return buffer;
}

function damaged(path: string, why: string, cause?: unknown): FileError {
  return new FileError(`${path} is damaged: ${why}`, { hint: "delete it and fetch it again", cause });
}
