import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import * as z from "zod";
import { DataError, FileError, messageOf, NetworkError, nearest } from "../errors.js";
import { type ColumnMap, parseCsv, parseJson, parseJsonl, parseParquet, type RowTable, renameColumns, rowTable } from "./rows.js";

/** How rows are read. */
export interface ReadRowsOptions {
  /** Columns to rename: wanted name to the file's name. */
  readonly map?: ColumnMap | undefined;
  /** Fetches `hf:` sources; the global fetch by default. */
  readonly fetch?: typeof fetch | undefined;
  /** Holds HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE; `process.env` by default. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Called while an `hf:` source downloads. */
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
}

/** How far a download is. */
export interface DownloadProgress {
  /** Which of the dataset's files, as its URL. */
  readonly file: string;
  /** Bytes of this file received so far. */
  readonly received: number;
  /** Bytes of this file in all, when the server says so. */
  readonly total: number | undefined;
}

const EXTENSIONS = [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"];

/**
 * Reads a file of rows by its extension (.jsonl, .ndjson, .json, .csv, .tsv, .parquet), or a dataset of the Hugging Face hub,
 * `hf:dataset/id[:config][:split]` (split `train` by default; with one suffix only, it is a config if there is one of that name, else a split).
 * Throws FileError for a missing file or a folder, DataError for bad content, NetworkError for failed downloads, all naming the place.
 */
export async function readRows(source: string, options: ReadRowsOptions = {}): Promise<RowTable> {
  const table = source.startsWith("hf:") ? await readHub(source, options) : await readLocal(source, options);
  return renameColumns(table, options.map ?? {});
}

async function readLocal(path: string, options: ReadRowsOptions): Promise<RowTable> {
  const bytes = await readBytes(path);
  const extension = extname(path).toLowerCase();
  if (!EXTENSIONS.includes(extension)) {
    throw new DataError(`cannot tell the format of ${path} from its name`, {
      hint: `Rows are read from ${EXTENSIONS.join(", ")}, or from hf:dataset/id.`,
    });
  }
  if (bytes.length === 0) throw new DataError(`${path} is empty (0 bytes)`);
  if (extension === ".parquet") return parseParquet(bytes, path);
  const text = decodeUtf8(bytes, path);
  if (extension === ".csv" || extension === ".tsv") return parseCsv(text, path, options.map?.label);
  return extension === ".json" ? parseJson(text, path) : parseJsonl(text, path);
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    if ((await stat(path)).isDirectory()) {
      const files = (await readdir(path)).filter((name) => EXTENSIONS.includes(extname(name).toLowerCase())).sort();
      throw new FileError(`${path} is a folder, not a file of rows`, {
        hint:
          files.length === 0
            ? "Name a file in it."
            : `Did you mean ${files
                .slice(0, 3)
                .map((name) => join(path, name))
                .join(" or ")}?`,
      });
    }
    return await readFile(path);
  } catch (cause) {
    if (cause instanceof FileError) throw cause;
    if (errorCode(cause) === "ENOENT" || errorCode(cause) === "ENOTDIR")
      throw new FileError(`there is no file ${path}`, { hint: await missingHint(path), cause });
    throw new FileError(`cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

async function missingHint(path: string): Promise<string | undefined> {
  const folder = dirname(path);
  const names = await readdir(folder).catch(() => undefined);
  if (names === undefined)
    return /^[\w.-]+\/[\w.-]+$/.test(path)
      ? `For a dataset of the Hugging Face hub write hf:${path}.`
      : `There is no folder ${folder} either.`;
  const guess = nearest(basename(path), names);
  if (guess !== undefined) return `Did you mean ${join(folder, guess)}?`;
  const files = names.filter((name) => EXTENSIONS.includes(extname(name).toLowerCase())).sort();
  return files.length === 0 ? undefined : `${folder} holds ${files.slice(0, 5).join(", ")}.`;
}

function decodeUtf8(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DataError(`${path}:${badUtf8Line(bytes)}: this is not UTF-8 text`, {
      hint: "Save the file as UTF-8 (iconv -f latin1 -t utf-8 converts one).",
      cause,
    });
  }
}

/** The line (from 1) in which UTF-8 breaks. */
function badUtf8Line(bytes: Uint8Array): number {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for (let line = 1, start = 0; start < bytes.length; line++) {
    const end = bytes.indexOf(10, start) + 1 || bytes.length;
    try {
      decoder.decode(bytes.subarray(start, end));
    } catch {
      return line;
    }
    start = end;
  }
  return 1;
}

const LISTING = z.record(z.string(), z.record(z.string(), z.array(z.string())));
type Listing = z.infer<typeof LISTING>;

async function readHub(source: string, options: ReadRowsOptions): Promise<RowTable> {
  const env = options.env ?? process.env;
  const [id = "", ...names] = source.slice("hf:".length).split(":");
  if (!/^[\w.-]+(\/[\w.-]+)?$/.test(id) || names.length > 2) {
    throw new DataError(`cannot read "${source}" as a dataset`, {
      hint: "Write hf:name or hf:org/name, then :config and :split as needed.",
    });
  }
  if (/^(1|true|yes|on)$/i.test(env.HF_HUB_OFFLINE ?? "")) {
    throw new NetworkError(`${source} must be fetched from the hub, and HF_HUB_OFFLINE=${env.HF_HUB_OFFLINE} forbids that`, {
      hint: "Unset HF_HUB_OFFLINE, or download the dataset's Parquet files and name one of them.",
    });
  }
  const endpoint = (env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
  const download = (url: string, onProgress?: ReadRowsOptions["onProgress"]): Promise<Uint8Array> =>
    fetchBytes(url, { source, endpoint, token: env.HF_TOKEN, fetch: options.fetch ?? fetch, onProgress });
  const listingUrl = `${endpoint}/api/datasets/${id}/parquet`;
  const { config, split, urls } = chooseFiles(parseListing(await download(listingUrl), listingUrl), names, id);
  const tables: RowTable[] = [];
  for (const url of urls) tables.push(await parseParquet(await download(url, options.onProgress), url));
  return rowTable(
    tables.flatMap((table) => table.rows),
    `hf:${id}:${config}:${split}`,
  );
}

function parseListing(bytes: Uint8Array, url: string): Listing {
  try {
    return LISTING.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (cause) {
    throw new NetworkError(`${url} did not answer with a list of Parquet files`, { hint: "Is HF_ENDPOINT a Hugging Face hub?", cause });
  }
}

function chooseFiles(listing: Listing, names: readonly string[], id: string): { config: string; split: string; urls: readonly string[] } {
  const configs = Object.keys(listing);
  const only = configs.includes("default") ? "default" : configs.length === 1 ? configs[0] : undefined;
  const [first = "", second = ""] = names;
  const firstIsSplit = second === "" && only !== undefined && !configs.includes(first) && Object.hasOwn(listing[only] ?? {}, first);
  const config = first === "" || firstIsSplit ? only : first;
  const split = (firstIsSplit ? first : second) || "train";
  if (config === undefined) {
    throw new DataError(
      configs.length === 0
        ? `the hub has no Parquet files of the dataset ${id}`
        : `the dataset ${id} has several configs: ${configs.join(", ")}`,
      {
        hint: configs.length === 0 ? "Download its files and name one of them." : `Name one, like hf:${id}:${configs[0]}.`,
      },
    );
  }
  const splits = listing[config];
  if (splits === undefined) {
    throw new DataError(`the dataset ${id} has no config "${config}"; it has ${configs.join(", ")}`, { hint: didYouMean(config, configs) });
  }
  const urls = splits[split];
  if (urls === undefined || urls.length === 0) {
    const found = Object.keys(splits);
    throw new DataError(`the dataset ${id} (config ${config}) has no split "${split}"; it has ${found.join(", ")}`, {
      hint: didYouMean(split, found) ?? `Name one, like hf:${id}:${config}:${found[0]}.`,
    });
  }
  return { config, split, urls };
}

function didYouMean(word: string, candidates: readonly string[]): string | undefined {
  const guess = nearest(word, candidates);
  return guess === undefined ? undefined : `Did you mean "${guess}"?`;
}

interface FetchContext {
  readonly source: string;
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly fetch: typeof fetch;
  readonly onProgress: ReadRowsOptions["onProgress"];
}

async function fetchBytes(url: string, context: FetchContext): Promise<Uint8Array> {
  // The token goes to the endpoint itself only, never to a storage host named in a listing (fetch drops it on redirects to other origins).
  const authorized = context.token !== undefined && context.token !== "" && new URL(url).origin === new URL(context.endpoint).origin;
  try {
    const response = await context.fetch(url, authorized ? { headers: { authorization: `Bearer ${context.token}` } } : {});
    if (!response.ok) throw refused(response.status, url, context);
    const length = response.headers.get("content-encoding") === null ? Number(response.headers.get("content-length") ?? 0) : 0;
    const total = length > 0 ? length : undefined;
    const chunks: Uint8Array[] = [];
    let received = 0;
    const reader = response.body?.getReader();
    for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read()) {
      chunks.push(part.value);
      received += part.value.length;
      context.onProgress?.({ file: url, received, total });
    }
    return joined(chunks, received);
  } catch (cause) {
    if (cause instanceof NetworkError) throw cause;
    const reason =
      cause instanceof Error
        ? (errorCode(cause.cause) ?? (cause.cause instanceof Error ? cause.cause.message : cause.message))
        : String(cause);
    throw new NetworkError(`cannot fetch ${url} for ${context.source}: ${reason}`, {
      hint: "Check the network, or set HF_ENDPOINT to a mirror that this machine can reach.",
      cause,
    });
  }
}

function refused(status: number, url: string, { source, token }: FetchContext): NetworkError {
  const message = `${url} answered ${status}`;
  if (status === 404)
    return new NetworkError(`${message}: no such dataset, or none with Parquet files`, { hint: `Check the name in ${source}.` });
  if (status === 401 || status === 403) {
    return new NetworkError(`${message}: no permission for ${source}, or no such dataset`, {
      hint: token
        ? "Accept the dataset's terms on the hub, or use a token that may read it."
        : "Set HF_TOKEN to a token that may read it, and check the name.",
    });
  }
  return new NetworkError(message, { hint: status === 429 ? "Too many requests: wait a minute, or set HF_TOKEN." : "Try again later." });
}

function joined(chunks: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

function errorCode(error: unknown): string | undefined {
  return typeof error === "object" && error !== null && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
