import { createHash } from "node:crypto";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { FileError, messageOf, nearest } from "../errors.js";
import type { Files } from "./files.js";
import { byteRange } from "./memory-files.js";

/** One read call asks for at most this many bytes; the operating system's own limit is 2 GiB. */
const MAX_READ = 2 ** 30;
/** Bytes hashed at a time. */
const HASH_CHUNK = 2 ** 20;

/**
 * The files of a folder on disk. Node only. Each read opens the file and closes it again, so there is nothing to dispose.
 * Throws FileError for names that lead out of the folder, and for what cannot be read.
 */
export function directory(path: string): Files {
  return {
    origin: path,
    async size(name) {
      const file = inside(path, name);
      try {
        const info = await stat(file);
        return info.isFile() ? info.size : undefined;
      } catch (cause) {
        if (isMissing(cause)) return undefined;
        throw unreadable(file, cause);
      }
    },
    async read(name, start = 0, end) {
      const file = inside(path, name);
      let handle: FileHandle | undefined;
      try {
        const info = await stat(file); // before opening, which would wait for a pipe's other end
        if (!info.isFile()) throw new FileError(`${file}: not a file`);
        const range = byteRange(file, info.size, start, end);
        handle = await open(file, "r");
        return await readRange(handle, file, ...range);
      } catch (cause) {
        if (cause instanceof FileError) throw cause;
        throw isMissing(cause) ? await missing(file, cause) : unreadable(file, cause);
      } finally {
        await handle?.close();
      }
    },
    sha256: async (name) => {
      const file = inside(path, name);
      return sha256File(file).catch(async (cause: unknown) => {
        throw isMissing(cause) ? await missing(file, cause) : unreadable(file, cause);
      });
    },
  };
}

/** The sha256 of a file, hexadecimal; one small buffer serves for the whole of it. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash("sha256");
  const handle = await open(path, "r");
  try {
    const buffer = new Uint8Array(HASH_CHUNK);
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, HASH_CHUNK);
      if (bytesRead === 0) return hash.digest("hex");
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await handle.close();
  }
}

async function readRange(handle: FileHandle, file: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(end - start);
  let filled = 0;
  while (filled < bytes.length) {
    const { bytesRead } = await handle.read(bytes, filled, Math.min(MAX_READ, bytes.length - filled), start + filled);
    if (bytesRead === 0) throw new FileError(`${file}: ends at byte ${start + filled}, expected ${end}: did it shrink meanwhile?`);
    filled += bytesRead;
  }
  return bytes;
}

function inside(path: string, name: string): string {
  const parts = name.split("/");
  if (parts.some((part) => part === "" || part === "." || part === "..") || /[\\\0]|^[A-Za-z]:/.test(name)) {
    throw new FileError(`${path}: ${JSON.stringify(name)} is not the name of a file in this folder`, {
      hint: "Names are relative, with forward slashes and without '..'.",
    });
  }
  return join(path, ...parts);
}

async function missing(file: string, cause: unknown): Promise<FileError> {
  const folder = dirname(file);
  const names = await readdir(folder).catch(() => undefined);
  if (!names) return new FileError(`${file}: no such file: the folder ${folder} does not exist`, { cause });
  const near = nearest(basename(file), names);
  return new FileError(`${file}: no such file`, { cause, hint: near && `Did you mean ${join(folder, near)}?` });
}

function isMissing(cause: unknown): boolean {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  return code === "ENOENT" || code === "ENOTDIR";
}

function unreadable(file: string, cause: unknown): FileError {
  return new FileError(`${file}: cannot be read: ${messageOf(cause)}`, { cause });
}
