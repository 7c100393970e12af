import { randomBytes } from "node:crypto";
import { access, constants, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { CheckpointError, FileError } from "../errors.js";
import { directory } from "../io/directory.js";
import type { CheckpointStore } from "../train/checkpoint.js";

/** Checkpoints that are kept: the newest, and the one before it. */
const keptCheckpoints = 2;

/** Makes a folder that can be written to, with its parents. Throws FileError. */
export async function writableFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
    await access(path, constants.W_OK);
    if (!(await stat(path)).isDirectory()) throw new Error("it is a file");
  } catch (cause) {
    throw new FileError(`cannot write to ${path}: ${(cause as Error).message}`, {
      hint: "choose another output folder, or change its permissions",
      cause,
    });
  }
}

/** Writes a file under a temporary name in the same folder, and renames it: readers see all of it or the one before. */
export async function writeWhole(path: string, bytes: Uint8Array | string): Promise<void> {
  const temporary = join(dirname(path), `.${randomBytes(6).toString("hex")}.tmp`);
  try {
    const file = await open(temporary, "wx");
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new FileError(`cannot write ${path}: ${(cause as Error).message}`, {
      hint: "is the disk full, or the folder not writable?",
      cause,
    });
  }
}

/** Checkpoints as folders `checkpoint-N` of an output folder; only whole ones ever carry that name. */
export function checkpointFolders(out: string): CheckpointStore {
  return {
    async save(step, files) {
      const place = join(out, `checkpoint-${step}`);
      const temporary = join(out, `.checkpoint-${step}.${randomBytes(4).toString("hex")}.tmp`);
      try {
        await mkdir(temporary, { recursive: true });
        for (const [name, bytes] of Object.entries(files)) await writeWhole(join(temporary, name), bytes);
        await rm(place, { recursive: true, force: true });
        await rename(temporary, place);
      } catch (cause) {
        await rm(temporary, { recursive: true, force: true });
        throw cause instanceof FileError ? cause : new FileError(`cannot write ${place}: ${(cause as Error).message}`, { cause });
      }
      for (const old of (await stepsIn(out)).slice(keptCheckpoints))
        await rm(join(out, `checkpoint-${old}`), { recursive: true, force: true });
      return place;
    },
    async latest() {
      const [newest] = await stepsIn(out);
      return newest === undefined ? undefined : directory(join(out, `checkpoint-${newest}`));
    },
  };
}

/** The checkpoint store of a resumed run: an output folder, or one of its checkpoints by name. Throws CheckpointError when there is none. */
export async function checkpointsToResume(out: string, resume: string | true): Promise<CheckpointStore> {
  const store = checkpointFolders(out);
  if (resume === true) {
    if ((await store.latest()) === undefined)
      throw new CheckpointError(`${out} has no checkpoint`, { hint: "train without --resume to start afresh" });
    return store;
  }
  const path = resolve(resume);
  if ((await stat(join(path, "trainer_state.json")).catch(() => undefined)) === undefined) {
    throw new CheckpointError(`${resume} is not a checkpoint: it has no trainer_state.json`, {
      hint: "give a folder named checkpoint-N, or --resume alone for the newest",
    });
  }
  return { ...store, latest: async () => directory(path) };
}

/** Steps of the checkpoints in a folder, newest first. */
async function stepsIn(out: string): Promise<readonly number[]> {
  const names = await readdir(out).catch(() => []);
  return names.flatMap((name) => (/^checkpoint-\d+$/.test(name) ? [Number(name.slice("checkpoint-".length))] : [])).sort((a, b) => b - a);
}
