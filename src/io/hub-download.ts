import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { FileError, NetworkError } from "../errors.js";
import { type HubConnection, hubGet, type Subject, UnreachableError, unreachable, within } from "./hub-request.js";

/** One file of the hub and how its bytes are known to be right. */
export interface Download {
  readonly url: string;
  /** Its name in the repository, for messages and progress. */
  readonly file: string;
  /** Bytes. */
  readonly size: number;
  /** sha256 of the bytes (large files), or git's blob sha1. */
  readonly hash: { readonly kind: "sha256" | "git-sha1"; readonly hex: string };
}

const attempts = 5;
const progressBytes = 2 ** 20;

/**
 * Downloads to `path` through `path.incomplete` (the name that Python's hub client uses), continuing what is there by a Range request. A cut
 * or silent connection is tried again; attempts that bring a mebibyte or more are not counted. `path` appears only when size and hash agree.
 * Throws NetworkError when the hash does not agree (nothing is kept), UnreachableError when the transfer keeps breaking (the part is kept).
 */
export async function download(c: HubConnection, item: Download, path: string, subject: Subject): Promise<void> {
  const part = `${path}.incomplete`;
  const handle = await open(part, "a+").catch((error: unknown) => {
    throw new FileError(`cannot write ${part}`, { cause: error, hint: "choose another cache folder with HF_HOME" });
  });
  try {
    const resumed = await fill(c, item, handle, subject);
    if (!resumed.agrees) {
      await handle.truncate(0);
      // The part may come from an older attempt that went wrong: once more from the start before blaming the hub.
      if (!resumed.continued || !(await fill(c, item, handle, subject)).agrees) {
        await rm(part, { force: true });
        throw new NetworkError(`${item.file} of ${subject.label} is damaged: its ${item.hash.kind} is not ${item.hash.hex}`, {
          hint: "nothing was kept; try again, and if it stays so, the mirror or proxy in between changes files",
        });
      }
    }
  } finally {
    await handle.close();
  }
  await rename(part, path);
}

async function fill(
  c: HubConnection,
  item: Download,
  handle: FileHandle,
  subject: Subject,
): Promise<{ agrees: boolean; continued: boolean }> {
  let have = (await handle.stat()).size;
  if (have > item.size) {
    await handle.truncate(0);
    have = 0;
  }
  const continued = have > 0;
  let hash = await begin(item, handle, have);
  for (let failures = 0; have < item.size; ) {
    const before = have;
    try {
      const response = await hubGet(c, item.url, subject, {
        "accept-encoding": "identity",
        ...(have > 0 && { range: `bytes=${have}-` }),
      });
      if (have > 0 && !continues(response, have)) {
        await handle.truncate(0);
        have = 0;
        hash = await begin(item, handle, 0);
      }
      if (response.status === 416) throw new Error("range refused");
      for await (const chunk of chunks(c, response)) {
        await write(handle, chunk);
        hash.update(chunk);
        have += chunk.length;
        if (have > item.size) return { agrees: false, continued };
        c.onProgress?.({ kind: "file", file: item.file, loaded: have, total: item.size });
      }
      if (have < item.size) throw new Error(`connection closed after ${have} of ${item.size} bytes`);
    } catch (error) {
      c.signal?.throwIfAborted();
      if (error instanceof FileError || (error instanceof NetworkError && !(error instanceof UnreachableError))) throw error;
      failures = have - before >= progressBytes ? 1 : failures + 1;
      if (failures >= attempts || (error instanceof UnreachableError && have === 0)) {
        const why = error instanceof UnreachableError ? error : unreachable(error, item.url);
        throw new UnreachableError(`${item.file} of ${subject.label}: ${why.message}, ${have} of ${item.size} bytes are there`, {
          cause: error,
          hint: "run it again: the download continues where it stopped",
        });
      }
      await c.sleep(500 * 2 ** (failures - 1));
    }
  }
  return { agrees: hash.digest("hex") === item.hash.hex, continued };
}

/** A hash that has seen the bytes already there. */
async function begin(item: Download, handle: FileHandle, have: number): Promise<Hash> {
  const hash = item.hash.kind === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${item.size}\0`);
  if (have > 0) {
    for await (const chunk of handle.createReadStream({ start: 0, end: have - 1, autoClose: false })) hash.update(chunk);
  }
  return hash;
}

function continues(response: Response, from: number): boolean {
  return response.status === 206 && (response.headers.get("content-range") ?? "").startsWith(`bytes ${from}-`);
}

async function* chunks(c: HubConnection, response: Response): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      const { done, value } = await within(c.settings.stallTimeout, reader.read());
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

async function write(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  try {
    await handle.appendFile(chunk);
  } catch (error) {
    throw new FileError(`cannot write to the cache: ${error instanceof Error ? error.message : error}`, {
      cause: error,
      hint: "is the disk full? choose another folder with HF_HOME",
    });
  }
}
