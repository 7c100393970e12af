import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as z from "zod";
import { NetworkError } from "../errors.js";

/** One file of a repository. Hashes are undefined where only the cache's folder is known. */
export interface HubFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** sha256 of the bytes: large files only. */
  readonly sha256: string | undefined;
  /** git's blob sha1; of a large file, of its pointer. */
  readonly oid: string | undefined;
  /** Kept for Python's client, which fetches by it. */
  readonly xetHash?: string | undefined;
}

const stored = z.object({
  format_version: z.literal(1),
  files: z.record(
    z.string(),
    z.object({
      size: z.number(),
      blob_id: z.string(),
      lfs_sha256: z.string().nullish(),
      lfs_size: z.number().nullish(),
      xet_hash: z.string().nullish(),
    }),
  ),
});

/**
 * The files of a commit as the cache remembers them, or undefined. A commit's listing never changes.
 * The file is that of Python's `huggingface_hub` (`_tree_cache.py`, format 1): `trees/<commit>.json` in the repository's folder.
 */
export async function readTree(folder: string, revision: string): Promise<readonly HubFile[] | undefined> {
  let tree: z.infer<typeof stored>;
  try {
    tree = stored.parse(JSON.parse(await readFile(treeFile(folder, revision), "utf8")));
  } catch {
    return undefined;
  }
  return Object.entries(tree.files).map(([path, file]) => ({
    path: safePath(path),
    size: file.lfs_size ?? file.size,
    sha256: file.lfs_sha256 ?? undefined,
    oid: file.blob_id,
    xetHash: file.xet_hash ?? undefined,
  }));
}

/** Remembers a commit's files. */
export async function writeTree(folder: string, revision: string, files: readonly HubFile[]): Promise<void> {
  const entries = files.map((file) => {
    const large = file.sha256 === undefined ? {} : { lfs_sha256: file.sha256, lfs_size: file.size };
    return [
      file.path,
      { size: file.size, blob_id: file.oid ?? "", ...large, ...(file.xetHash !== undefined && { xet_hash: file.xetHash }) },
    ];
  });
  await writeWhole(treeFile(folder, revision), JSON.stringify({ format_version: 1, files: Object.fromEntries(entries) }, null, 1));
}

/** Writes a text file in one rename. */
export async function writeWhole(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.${process.pid}`, text);
  await rename(`${path}.${process.pid}`, path);
}

/** The path itself, unless it would lead out of the cache: names come from elsewhere and become paths. Throws NetworkError. */
export function safePath(path: string): string {
  if (/^[/\\]|^[A-Za-z]:|\\|\0/.test(path) || path.split("/").some((part) => part === ".." || part === "." || part === "")) {
    throw new NetworkError(`unsafe file name or revision "${path}"`);
  }
  return path;
}

function treeFile(folder: string, revision: string): string {
  return join(folder, "trees", `${revision}.json`);
}
