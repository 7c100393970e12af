import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { directory } from "./directory.js";
import { memoryFiles } from "./memory-files.js";
import { subfolder } from "./subfolder.js";

const bytes = Uint8Array.of(1, 2, 3, 4);
let home: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "subfolder-"));
  await mkdir(join(home, "a/b"), { recursive: true });
  await writeFile(join(home, "a/b/x.bin"), bytes);
  await writeFile(join(home, "outside"), bytes);
});
afterAll(() => rm(home, { recursive: true }));

test("files of a folder, whole and in part, under their own names", async () => {
  const files = subfolder(memoryFiles("m", { "a/x": bytes, x: Uint8Array.of(9) }), "a");
  expect(files.origin).toBe("m/a");
  expect([await files.size("x"), await files.size("y")]).toEqual([4, undefined]);
  expect(await files.read("x")).toEqual(bytes);
  expect(await files.read("x", 1, 3)).toEqual(Uint8Array.of(2, 3));
  expect(await files.read("x", 2)).toEqual(Uint8Array.of(3, 4));
  await expect(files.read("y")).rejects.toThrow("m/a/y: no such file");
});

test("a folder in a folder", async () => {
  const files = subfolder(subfolder(directory(home), "a"), "b");
  expect(files.origin).toBe(`${home}/a/b`);
  expect(await files.read("x.bin")).toEqual(bytes);
});

test("the hash is there where the whole set has it", async () => {
  const files = subfolder(directory(home), "a/b");
  expect(await files.sha256?.("x.bin")).toBe(createHash("sha256").update(bytes).digest("hex"));
  expect(subfolder(memoryFiles("m", {}), "a").sha256).toBeUndefined();
});

test.each(["..", "a/../..", "", "/"])("a folder named %j is not one, on disk", async (name) => {
  await expect(subfolder(directory(home), name).read("outside")).rejects.toThrow(/is not the name of a file in this folder/);
});
