import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { failure } from "../../test/failure.fixture.js";
import { CheckpointError, FileError, WeightError } from "../errors.js";
import { checkpointFolders, checkpointsToResume, newFolder, writableFolder, writeFolder, writeWhole } from "./folder.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-folder-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Content that no file takes: writing it fails after the temporary file was made. */
const unwritable = Symbol("content") as unknown as string;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("writeWhole", () => {
  it("writes, replaces, and leaves nothing else behind", async () => {
    const path = join(folder, "a.txt");
    await writeWhole(path, "first");
    await writeWhole(path, bytes("second"));
    expect(await readFile(path, "utf8")).toBe("second");
    expect(await readdir(folder)).toEqual(["a.txt"]);
  });

  it("that fails leaves the old file", async () => {
    const path = join(folder, "a.txt");
    await writeWhole(path, "old");
    const error = await failure(() => writeWhole(path, unwritable));
    expect(error).toBeInstanceOf(FileError);
    expect(error.message).toContain(`cannot write ${path}`);
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(folder)).toEqual(["a.txt"]);
  });

  it("that cannot put the file in its place leaves what is there", async () => {
    const path = join(folder, "a");
    await mkdir(path);
    await writeFile(join(path, "inside"), "old");
    expect(await failure(() => writeWhole(path, "new"))).toBeInstanceOf(FileError);
    expect(await readdir(folder, { recursive: true })).toEqual(["a", join("a", "inside")]);
    expect(await failure(() => writeWhole(join(folder, "none", "a"), "new"))).toBeInstanceOf(FileError);
  });
});

describe("writableFolder", () => {
  it("makes the folder and its parents, and keeps one that is there", async () => {
    const path = join(folder, "a", "b");
    await writableFolder(path);
    await writableFolder(path);
    expect((await stat(path)).isDirectory()).toBe(true);
  });

  it("refuses a file, and a folder below a file", async () => {
    const file = join(folder, "file");
    await writeFile(file, "");
    for (const path of [file, join(file, "below"), join(file, "below", "that")]) {
      const error = await failure(() => writableFolder(path));
      expect(error, path).toBeInstanceOf(FileError);
      expect(error.message).toContain(`cannot write to ${path}`);
      expect(error.hint).toContain("another output folder");
    }
  });

  it.skipIf(process.getuid?.() === 0)("refuses a folder without permission to write", async () => {
    await chmod(folder, 0o500);
    expect(await failure(() => writableFolder(folder))).toBeInstanceOf(FileError);
    expect(await failure(() => writableFolder(join(folder, "new")))).toBeInstanceOf(FileError);
    await chmod(folder, 0o700);
  });
});

describe("newFolder", () => {
  async function* pieces(fault?: Error): AsyncGenerator<Uint8Array> {
    yield bytes("one ");
    if (fault !== undefined) throw fault;
    yield bytes("two");
  }

  it("shows its files when it is finished, those that come in pieces too", async () => {
    const out = join(folder, "a", "b");
    const made = await newFolder(out);
    await writeFolder(made.temporary, { "x.txt": "x", "y/z.bin": pieces() });
    expect((await readdir(out)).every((name) => name.startsWith("."))).toBe(true);
    await made.finish();
    await made.drop();
    expect((await readdir(out)).sort()).toEqual(["x.txt", "y"]);
    expect(await readFile(join(out, "y", "z.bin"), "utf8")).toBe("one two");
  });

  it("goes away with all it made when it is dropped, and passes on what went wrong in making the bytes", async () => {
    const made = await newFolder(join(folder, "a", "b"));
    const fault = new WeightError("lost");
    await expect(writeFolder(made.temporary, { "x.txt": "x", "z.bin": pieces(fault) })).rejects.toBe(fault);
    await made.drop();
    expect(await readdir(folder)).toEqual([]);
  });

  it("refuses a folder with files, and leaves them", async () => {
    await writeFile(join(folder, "mine.txt"), "mine");
    const error = await failure(() => newFolder(folder));
    expect(error).toBeInstanceOf(FileError);
    expect(error.message).toContain("holds files already: mine.txt");
    expect(await readdir(folder)).toEqual(["mine.txt"]);
  });
});

describe("checkpointFolders", () => {
  const state = { "trainer_state.json": bytes("{}") };

  it("keeps the newest two, and gives the newest", async () => {
    const store = checkpointFolders(folder);
    expect(await store.latest()).toBeUndefined();
    for (const step of [2, 9, 10]) expect(await store.save(step, state)).toBe(join(folder, `checkpoint-${step}`));
    expect((await readdir(folder)).sort()).toEqual(["checkpoint-10", "checkpoint-9"]);
    expect((await store.latest())!.origin).toBe(join(folder, "checkpoint-10"));
  });

  it("writes all of one or nothing", async () => {
    const store = checkpointFolders(folder);
    await store.save(1, state);
    const error = await failure(() => store.save(2, { ...state, "params.safetensors": unwritable as unknown as Uint8Array }));
    expect(error).toBeInstanceOf(FileError);
    expect(await readdir(folder)).toEqual(["checkpoint-1"]);
  });

  it("replaces one of the same step", async () => {
    const store = checkpointFolders(folder);
    await store.save(1, { ...state, old: bytes("old") });
    await store.save(1, state);
    expect(await readdir(join(folder, "checkpoint-1"))).toEqual(["trainer_state.json"]);
  });

  it("looks at whole ones only", async () => {
    for (const name of [".checkpoint-9.abcd.tmp", "checkpoint-x", "checkpoint-8b", "log.jsonl"]) await mkdir(join(folder, name));
    const store = checkpointFolders(folder);
    expect(await store.latest()).toBeUndefined();
    await store.save(3, state);
    expect((await store.latest())!.origin).toBe(join(folder, "checkpoint-3"));
  });

  it("drops later ones of a run that was given up", async () => {
    const store = checkpointFolders(folder);
    await store.save(90, state);
    await store.save(100, state);
    await store.save(10, state); // a fresh run in the same folder, or one resumed from further back
    expect(await readdir(folder)).toEqual(["checkpoint-10"]);
    await store.save(20, state);
    expect((await store.latest())!.origin).toBe(join(folder, "checkpoint-20"));
  });
});

describe("checkpointsToResume", () => {
  it("needs a checkpoint in the folder", async () => {
    const error = await failure(() => checkpointsToResume(folder, true));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toBe(`${folder} has no checkpoint`);
    expect(error.hint).toContain("without --resume");
    await checkpointFolders(folder).save(4, {});
    expect((await (await checkpointsToResume(folder, true)).latest())!.origin).toBe(join(folder, "checkpoint-4"));
  });

  it("takes one by name", async () => {
    const store = checkpointFolders(folder);
    for (const step of [1, 2]) await store.save(step, { "trainer_state.json": bytes("{}") });
    const named = await checkpointsToResume(folder, join(folder, "checkpoint-1"));
    expect((await named.latest())!.origin).toBe(join(folder, "checkpoint-1"));
    for (const wrong of [folder, join(folder, "checkpoint-7")]) {
      const error = await failure(() => checkpointsToResume(folder, wrong));
      expect(error).toBeInstanceOf(CheckpointError);
      expect(error.message).toContain(`${wrong} is not a checkpoint`);
    }
  });
});
