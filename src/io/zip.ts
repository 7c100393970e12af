import { type FileHandle, open } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { crc32, createInflateRaw } from "node:zlib";
import { FileError } from "../errors.js";

/** One file in a zip archive. */
export interface ZipEntry {
  readonly name: string;
  /** Bytes when unpacked. */
  readonly size: number;
  readonly compressedSize: number;
  readonly crc32: number;
  /** 0 stored, 8 deflate. */
  readonly method: number;
  readonly headerOffset: number;
}

/** An open zip archive; close it after use. */
export interface Zip {
  readonly entries: ReadonlyMap<string, ZipEntry>;
  /** Unpacks one file into `write`, chunk by chunk. Throws FileError when there is no such file, or its size or CRC does not agree. */
  extract(name: string, write: (chunk: Uint8Array) => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens a zip archive (a Python wheel is one) by its central directory. Stored and deflated files only; no zip64, no encryption.
 * Format: PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12 and 4.3.16. Throws FileError for anything else.
 */
export async function openZip(path: string): Promise<Zip> {
  const handle = await open(path).catch((error: unknown) => {
    throw new FileError(`cannot open ${path}`, { cause: error });
  });
  try {
    const entries = await readDirectory(handle, path);
    return { entries, extract: (name, write) => extract(handle, path, entries, name, write), close: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Bytes a step: four times as quick as Node's 16 KiB. */
const chunkSize = 2 ** 19;

async function readDirectory(handle: FileHandle, path: string): Promise<ReadonlyMap<string, ZipEntry>> {
  const { size } = await handle.stat();
  // The end record is 22 bytes and a comment of at most 65535.
  const tailStart = Math.max(0, size - 22 - 0xffff);
  const tail = await bytes(handle, path, tailStart, size - tailStart);
  const end = tail.lastIndexOf(Buffer.from("PK\x05\x06", "latin1"));
  if (end < 0 || end + 22 > tail.length) throw damaged(path, "no end record: it is not a zip archive, or was cut off");
  const count = tail.readUInt16LE(end + 10);
  const length = tail.readUInt32LE(end + 12);
  const start = tail.readUInt32LE(end + 16);
  if (count === 0xffff || start === 0xffffffff) throw damaged(path, "zip64 archives are not supported");
  const directory = await bytes(handle, path, start, length);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > length || directory.readUInt32LE(at) !== 0x02014b50) throw damaged(path, "its directory is damaged");
    const nameEnd = at + 46 + directory.readUInt16LE(at + 28);
    const entry = {
      name: directory.toString("utf8", at + 46, nameEnd),
      method: directory.readUInt16LE(at + 10),
      crc32: directory.readUInt32LE(at + 16),
      compressedSize: directory.readUInt32LE(at + 20),
      size: directory.readUInt32LE(at + 24),
      headerOffset: directory.readUInt32LE(at + 42),
    };
    entries.set(entry.name, entry);
    at = nameEnd + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
  }
  return entries;
}

async function extract(
  handle: FileHandle,
  path: string,
  entries: ReadonlyMap<string, ZipEntry>,
  name: string,
  write: (chunk: Uint8Array) => Promise<void>,
): Promise<void> {
  const entry = entries.get(name);
  if (entry === undefined) throw new FileError(`${path} holds no ${name}`);
  if (entry.method !== 0 && entry.method !== 8) throw damaged(path, `${name} is packed by method ${entry.method}, not by deflate`);
  const header = await bytes(handle, path, entry.headerOffset, 30);
  if (header.readUInt32LE(0) !== 0x04034b50) throw damaged(path, `${name} has no header`);
  // Name and extra field are given again here, and their lengths may differ from the directory's.
  const start = entry.headerOffset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
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
