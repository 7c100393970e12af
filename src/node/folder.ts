import { randomBytes } from "node:crypto";
import { access, constants, mkdir, open, readdir, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { CheckpointError, FileError, PeftError } from "../errors.js";
import { directory } from "../io/directory.js";
import type { FileContent } from "../programs/model-files.js";
import type { CheckpointStore } from "../train/checkpoint.js";

/** Checkpoints that are kept: the newest, and the one before it. */
const keptCheckpoints = 2;

/**
 * Makes a folder that can be written to, with its parents. Returns a function that removes those which this call made and which are still
 * empty, for a start that fails. Throws FileError.
 */
export async function writableFolder(path: string): Promise<() => Promise<void>> {
  const made: string[] = [];
  const dropIfEmpty = async (): Promise<void> => {
    for (const folder of made.toReversed()) if (!(await rmdir(folder).then(...yesOrNo))) return;
  };
  try {
    const missing: string[] = [];
    for (let folder = resolve(path); !(await stat(folder).then(...yesOrNo)); folder = dirname(folder)) missing.unshift(folder);
    // One by one: mkdir's own `recursive` never returns where a parent is there but takes no folders, as /proc.
    for (const folder of missing) {
      await mkdir(folder).then(
        () => made.push(folder),
        async (error: unknown) => {
          if (!(await stat(folder).then(...yesOrNo))) throw error; // another process was as quick
        },
      );
    }
    if (!(await stat(path)).isDirectory()) throw new Error("it is a file");
    await access(path, constants.W_OK);
    return dropIfEmpty;
  } catch (cause) {
    await dropIfEmpty();
    throw new FileError(`cannot write to ${path}: ${(cause as Error).message}`, {
      hint: "choose another output folder, or change its permissions",
      cause,
    });
  }
}

/** Throws FileError where a file cannot be written because its folder is missing or closed: for asking before long work, not after it. */
export async function checkFolderOf(path: string): Promise<void> {
  try {
    await access(dirname(path), constants.W_OK);
  } catch (cause) {
    throw new FileError(`cannot write ${path}: ${(cause as Error).message}`, { hint: "the folder must be there, and writable", cause });
  }
}

const yesOrNo = [() => true, () => false] as const;

/** Writes a file under a temporary name in the same folder, and renames it: readers see all of it or the one before. */
export async function writeWhole(path: string, bytes: FileContent | string): Promise<void> {
  const temporary = join(dirname(path), `.${randomBytes(6).toString("hex")}.tmp`);
  try {
    const file = await open(temporary, "wx");
    try {
      await writeFile(file, bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    if (cause instanceof PeftError) throw cause; // of what makes the bytes
    throw new FileError(`cannot write ${path}: ${(cause as Error).message}`, {
      hint: "is the disk full, or the folder not writable?",
      cause,
    });
  }
}

/** Writes files into a folder that is there, each whole; names may have folders in them. */
export async function writeFolder(folder: string, files: Readonly<Record<string, FileContent | string>>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    if (name.includes("/")) await mkdir(join(folder, dirname(name)), { recursive: true });
    await writeWhole(join(folder, name), content);
  }
}

/** A folder whose files appear together or not at all. */
export interface NewFolder {
  /** Where the files are written and looked at first. */
  readonly temporary: string;
  /** Moves them to the folder. */
  finish(): Promise<void>;
  /** Removes what was written, and the folder where it was made for it. Does nothing after `finish`. */
  drop(): Promise<void>;
}

/** Begins a folder that is not there yet, or is empty. Throws FileError for one that holds files, or cannot be written to. */
export async function newFolder(path: string): Promise<NewFolder> {
  const dropIfEmpty = await writableFolder(path);
  const there = await readdir(path);
  if (there.length > 0) {
    throw new FileError(`the folder ${path} holds files already: ${there.slice(0, 5).join(", ")}${there.length > 5 ? ", …" : ""}`, {
      hint: "choose another output folder, or empty this one first",
    });
  }
  const temporary = join(path, `.${randomBytes(6).toString("hex")}.tmp`);
  await mkdir(temporary);
  return {
    temporary,
    async finish() {
      for (const name of await readdir(temporary)) await rename(join(temporary, name), join(path, name));
      await rmdir(temporary);
    },
    async drop() {
      await rm(temporary, { recursive: true, force: true });
      await dropIfEmpty();
    },
  };
}

/** Checkpoints as folders `checkpoint-N` of an output folder; only whole ones ever carry that name. */
export function checkpointFolders(out: string): CheckpointStore {
  return {
    async save(step, files) {
      const place = join(out, `checkpoint-${step}`);
      const temporary = join(out, `.checkpoint-${step}.${randomBytes(4).toString("hex")}.tmp`);
      try {
        for (const left of (await readdir(out)).filter((name) => /^\.checkpoint-\d+\.\w+\.tmp$/.test(name)))
          await rm(join(out, left), { recursive: true }); // a killed run's
        await mkdir(temporary, { recursive: true });
        await writeFolder(temporary, files);
        await rm(place, { recursive: true, force: true });
        await rename(temporary, place);
      } catch (cause) {
        await rm(temporary, { recursive: true, force: true });
        throw cause instanceof FileError ? cause : new FileError(`cannot write ${place}: ${(cause as Error).message}`, { cause });
      }
      // Later ones belong to a run that was given up: this one began afresh, or went on from further back.
      const steps = await stepsIn(out);
      const kept = steps.filter((each) => each <= step).slice(0, keptCheckpoints);
      for (const old of steps.filter((each) => !kept.includes(each)))
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
