import { copyFile, mkdir, readdir, readFile, rm, stat, symlink } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import * as z from "zod";
import { NetworkError, PeftError } from "../errors.js";
import { download } from "./hub-download.js";
import { type Environment, hubSettings } from "./hub-environment.js";
import { apiFetch, type HubConnection, type Progress, type Subject, UnreachableError } from "./hub-request.js";
import { type HubFile, readTree, safePath, writeTree, writeWhole } from "./hub-tree.js";

export type { Environment } from "./hub-environment.js";
export { type Progress, UnreachableError } from "./hub-request.js";
export type { HubFile } from "./hub-tree.js";

/** A repository on the hub; `revision` is a branch, a tag or a commit, `main` by default. */
export interface HubRepo {
  readonly type: "model" | "dataset";
  readonly id: string;
  readonly revision?: string | undefined;
}

/** Picks the paths to have, given all files there are; throws where the needed ones are missing. */
export type Wanted = (files: readonly HubFile[]) => readonly string[];

/** What the hub functions are given by the caller, who owns process and clock. */
export interface HubOptions {
  readonly env: Environment;
  readonly fetch?: typeof fetch | undefined;
  /** Waits between attempts, milliseconds. */
  readonly sleep?: ((ms: number) => Promise<void>) | undefined;
  /** Stops a transfer; the part that is there is kept. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Files of one commit in the local cache. */
export interface Snapshot {
  /** The snapshot's folder. */
  readonly path: string;
  /** The commit. */
  readonly revision: string;
  /** The wanted paths, all of them there. */
  readonly files: readonly string[];
  /** Bytes downloaded by this call; 0 when all were cached. */
  readonly downloaded: number;
}

/**
 * Makes the wanted files of a repository present in the cache that Python's `huggingface_hub` uses (`models--org--name/{blobs,snapshots,refs}`)
 * and returns their folder. The hub is asked what the revision is and what it holds; only missing files are downloaded, hash checked. A commit
 * whose files are all cached needs no network; a branch does, but when the hub does not answer, or HF_HUB_OFFLINE is set, the cache serves.
 * Commit and listing are asked through `@huggingface/hub`; the transfer is ours, since that library neither checks hashes nor resumes.
 * Throws UnreachableError, NetworkError (unknown, private, gated, damaged), and what `wanted` throws.
 */
export async function fetchSnapshot(repo: HubRepo, wanted: Wanted, options: HubOptions): Promise<Snapshot> {
  const c = await connection(options);
  const folder = repoFolder(c.settings.cacheDir, repo);
  const subject = subjectOf(repo);
  const cached = await lookUp(folder, subject.revision, wanted);
  if (cached !== undefined && ((isCommit(subject.revision) && cached.listed) || c.settings.offline)) return cached.snapshot;
  if (c.settings.offline) {
    throw new UnreachableError(`HF_HUB_OFFLINE is set and ${subject.label} is not, or not wholly, in the cache ${c.settings.cacheDir}`, {
      hint: "unset HF_HUB_OFFLINE once to download it, or give a local folder",
    });
  }
  try {
    const { revision, files } = await listing(c, repo, subject, folder);
    return await complete(c, subject, folder, revision, files, wanted(files));
  } catch (error) {
    if (error instanceof UnreachableError && cached !== undefined) return cached.snapshot;
    throw error;
  }
}

/** What `fetchSnapshot` would return if it used no network: undefined when a wanted file is not cached. */
export async function cachedSnapshot(repo: HubRepo, wanted: Wanted, options: HubOptions): Promise<Snapshot | undefined> {
  const { cacheDir } = await hubSettings(options.env);
  return (await lookUp(repoFolder(cacheDir, repo), subjectOf(repo).revision, wanted))?.snapshot;
}

/** A JSON answer of the hub's API, `path` beginning with `/api/`. Token, retries and errors as in `fetchSnapshot`; not cached. */
export async function hubJson(repo: HubRepo, path: string, options: HubOptions): Promise<unknown> {
  const c = await connection(options);
  const subject = subjectOf(repo);
  if (c.settings.offline) throw new UnreachableError(`HF_HUB_OFFLINE is set: ${subject.label} cannot be looked up`, { hint: "unset it" });
  return asked(c, async () => (await apiFetch(c, subject)(`${c.settings.endpoint}${path}`)).json());
}

const commit = z.string().regex(/^[0-9a-f]{40}$/);

async function connection(options: HubOptions): Promise<HubConnection> {
  return {
    settings: await hubSettings(options.env),
    fetch: options.fetch ?? fetch,
    sleep: options.sleep ?? ((ms) => wait(ms, undefined, { signal: options.signal })),
    signal: options.signal,
    onProgress: options.onProgress,
  };
}

function subjectOf(repo: HubRepo): Subject {
  const id = repo.type === "dataset" ? `datasets/${repo.id}` : repo.id;
  return { label: `the ${repo.type} ${repo.id}`, id, revision: repo.revision ?? "main" };
}

function repoFolder(cacheDir: string, repo: HubRepo): string {
  return join(cacheDir, [`${repo.type}s`, ...repo.id.split("/")].join("--"));
}

function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** Commit and files of a revision. A commit's listing never changes, so it is kept beside the snapshots. */
async function listing(
  c: HubConnection,
  repo: HubRepo,
  subject: Subject,
  folder: string,
): Promise<{ revision: string; files: readonly HubFile[] }> {
  // Loaded here, not above: a run that finds all in the cache saves its 0.1 s.
  const { datasetInfo, listFiles, modelInfo } = await import("@huggingface/hub");
  const ask = { hubUrl: c.settings.endpoint, fetch: apiFetch(c, subject), revision: subject.revision };
  return asked(c, async () => {
    const which = { ...ask, name: repo.id };
    const info =
      repo.type === "model" ? modelInfo({ ...which, additionalFields: ["sha"] }) : datasetInfo({ ...which, additionalFields: ["sha"] });
    const revision = commit.parse((await info).sha);
    const known = await readTree(folder, revision);
    if (known !== undefined) return { revision, files: known };
    const files: HubFile[] = [];
    for await (const e of listFiles({ ...ask, repo: { type: repo.type, name: repo.id }, revision, recursive: true })) {
      if (e.type !== "file") continue;
      files.push({ path: safePath(e.path), size: e.lfs?.size ?? e.size, sha256: e.lfs?.oid, oid: e.oid, xetHash: e.xetHash });
    }
    await writeTree(folder, revision, files);
    return { revision, files };
  });
}

/** Whatever is thrown that is not ours comes from an answer that no hub gives: a captive portal's page, a proxy's. */
async function asked<T>(c: HubConnection, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    c.signal?.throwIfAborted();
    if (error instanceof PeftError) throw error;
    throw new UnreachableError(`${c.settings.endpoint} does not answer as a Hugging Face hub does`, { cause: error });
  }
}

async function complete(
  c: HubConnection,
  subject: Subject,
  folder: string,
  revision: string,
  files: readonly HubFile[],
  wanted: readonly string[],
): Promise<Snapshot> {
  const known = new Map(files.map((file) => [file.path, file]));
  const missing = wanted.filter((path) => !known.has(path));
  if (missing.length > 0) {
    throw new NetworkError(`${subject.label} has no ${missing.join(", ")} at revision ${subject.revision}`, {
      hint: `it holds ${files
        .slice(0, 12)
        .map((file) => file.path)
        .join(", ")}${files.length > 12 ? ", …" : ""}`,
    });
  }
  const path = join(folder, "snapshots", revision);
  let downloaded = 0;
  // Small ones first: a fault in a config shows before the weights are fetched.
  const items = wanted.map((name) => known.get(name)!).sort((a, b) => a.size - b.size);
  for (const file of items) {
    const pointer = join(path, file.path);
    if ((await sizeOf(pointer)) === file.size) continue;
    const etag = hexName(file.sha256 ?? file.oid);
    const blob = join(folder, "blobs", etag);
    if ((await sizeOf(blob)) !== file.size) {
      await mkdir(dirname(blob), { recursive: true });
      const url = `${c.settings.endpoint}/${subject.id}/resolve/${revision}/${file.path.split("/").map(encodeURIComponent).join("/")}`;
      const hash = { kind: file.sha256 === undefined ? "git-sha1" : "sha256", hex: etag } as const;
      await download(c, { url, file: file.path, size: file.size, hash }, blob, subject);
      downloaded += file.size;
    }
    await link(blob, pointer);
  }
  // Last, so that a revision never names a snapshot that was not finished.
  if (!isCommit(subject.revision)) await writeWhole(join(folder, "refs", safePath(subject.revision)), revision);
  return { path, revision, files: wanted, downloaded };
}

/** What the cache has of a revision; `listed` when the commit's whole listing is known, not just what happens to be there. */
async function lookUp(folder: string, name: string, wanted: Wanted): Promise<{ snapshot: Snapshot; listed: boolean } | undefined> {
  const revision = isCommit(name)
    ? name
    : await readFile(join(folder, "refs", safePath(name)), "utf8").then(
        (text) => text.trim(),
        () => undefined,
      );
  if (revision === undefined || !isCommit(revision)) return undefined;
  const path = join(folder, "snapshots", revision);
  const whole = await readTree(folder, revision);
  const known = whole ?? (await walk(path));
  let files: readonly string[];
  try {
    files = wanted(known);
  } catch (error) {
    if (whole !== undefined) throw error;
    return undefined;
  }
  const sizes = new Map(known.map((file) => [file.path, file.size]));
  for (const file of files) {
    const size = sizes.get(file);
    if (size === undefined || (await sizeOf(join(path, file))) !== size) return undefined;
  }
  return { snapshot: { path, revision, files, downloaded: 0 }, listed: whole !== undefined };
}

async function walk(folder: string): Promise<readonly HubFile[]> {
  const entries = await readdir(folder, { recursive: true }).catch(() => []);
  const files = entries.map(async (entry) => ({ path: entry.replaceAll("\\", "/"), size: await sizeOf(join(folder, entry)) }));
  return (await Promise.all(files)).flatMap(({ path, size }) =>
    size === undefined ? [] : [{ path, size, sha256: undefined, oid: undefined }],
  );
}

/** Bytes of a file, symbolic links followed; undefined where there is none, or a broken link. */
async function sizeOf(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() ? found.size : undefined;
}

/** A relative link as Python makes it, or a copy where links are not allowed (Windows). */
async function link(blob: string, pointer: string): Promise<void> {
  await mkdir(dirname(pointer), { recursive: true });
  await rm(pointer, { force: true });
  const target = relative(dirname(pointer), blob);
  await symlink(target, pointer).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") await copyFile(blob, pointer);
  });
}

function hexName(hash: string | undefined): string {
  if (hash === undefined || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash))
    throw new NetworkError(`the hub gave no hash for a file (${hash})`);
  return hash;
}
