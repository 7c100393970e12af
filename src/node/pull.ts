import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { ResolveOptions } from "../io/resolve-model.js";
import { resolveEither } from "./open-model.js";
import { weightsSha256 } from "./weights-hash.js";

/** A model or an adapter whose files are on this machine. */
export interface Pulled {
  readonly kind: "model" | "adapter";
  readonly model: string;
  /** The commit, or null where there is none. */
  readonly revision: string | null;
  readonly source: "directory" | "hub" | "cache" | "package";
  /** One line for people: what it is and where it came from. */
  readonly describe: string;
  /** The folder, or a GGUF file. */
  readonly path: string;
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
  readonly bytes: number;
  /** Of a model's weights as they lie on the disk now; null for an adapter. */
  readonly sha256: string | null;
}

/** Fetches what is not here yet, hash checked. Throws as `resolveModel` does. */
export async function pull(name: string, options: ResolveOptions): Promise<Pulled> {
  const { kind, id, revision, source, describe, files, path } = await resolveEither(name, options);
  const isFolder = (await stat(path)).isDirectory();
  const names = isFolder ? (await readdir(path)).sort() : [basename(path)];
  const sizes = await Promise.all(names.map(async (each) => ({ name: each, info: await stat(isFolder ? join(path, each) : path) })));
  const list = sizes.flatMap(({ name: each, info }) => (info.isFile() ? [{ name: each, bytes: info.size }] : []));
  return {
    ...{ kind, model: id, revision, source, describe, path, files: list },
    bytes: list.reduce((total, file) => total + file.bytes, 0),
    sha256: kind === "model" ? await weightsSha256(files) : null,
  };
}
