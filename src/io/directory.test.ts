import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { directory } from "./directory.js";
import { memoryFiles } from "./memory-files.js";

const folder = mkdtempSync(join(tmpdir(), "peft-directory-"));
const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => i % 251);
mkdirSync(join(folder, "1_Pooling"));
writeFileSync(join(folder, "model.safetensors"), bytes);
writeFileSync(join(folder, "1_Pooling", "config.json"), "{}");
writeFileSync(join(folder, "empty"), "");
afterAll(() => rmSync(folder, { recursive: true }));

const inMemory = memoryFiles(folder, {
  "model.safetensors": bytes,
  "1_Pooling/config.json": new TextEncoder().encode("{}"),
  empty: new Uint8Array(),
});

describe.each([
  ["directory", directory(folder)],
  ["memoryFiles", inMemory],
])("%s", (_, files) => {
  test("sizes", async () => {
    expect(await files.size("model.safetensors")).toBe(300_000);
    expect(await files.size("empty")).toBe(0);
    expect(await files.size("1_Pooling/config.json")).toBe(2);
    expect(await files.size("1_Pooling")).toBeUndefined();
    expect(await files.size("nothing")).toBeUndefined();
    expect(await files.size("model.safetensors/below")).toBeUndefined();
  });

  test("whole files and ranges", async () => {
    expect(Buffer.compare(await files.read("model.safetensors"), bytes)).toBe(0);
    expect([...(await files.read("model.safetensors", 250, 253))]).toEqual([250, 0, 1]);
    expect([...(await files.read("model.safetensors", 299_999))]).toEqual([(300_000 - 1) % 251]);
    expect([...(await files.read("model.safetensors", 300_000))]).toEqual([]);
    expect([...(await files.read("empty"))]).toEqual([]);
    expect(new TextDecoder().decode(await files.read("1_Pooling/config.json"))).toBe("{}");
  });

  test("what is read belongs to the reader", async () => {
    const read = await files.read("model.safetensors", 0, 2);
    read[0] = 99;
    expect((await files.read("model.safetensors", 0, 1))[0]).toBe(0);
  });

  test.each([
    [0, 300_001],
    [5, 4],
    [-1, 4],
    [0, 1.5],
    [0, Number.NaN],
    [300_001, undefined],
  ])("no bytes %s to %s", async (start, end) => {
    await expect(files.read("model.safetensors", start, end)).rejects.toMatchObject({
      code: "E_FILE",
      message: expect.stringContaining(`${folder}/model.safetensors: asked for bytes ${start} to`),
    });
  });

  test("a missing file names its path and its nearest neighbour", async () => {
    await expect(files.read("model.safetensor")).rejects.toMatchObject({
      code: "E_FILE",
      message: `${folder}/model.safetensor: no such file`,
      hint: expect.stringContaining("model.safetensors?"),
    });
    await expect(files.read("constructor")).rejects.toMatchObject({ code: "E_FILE", hint: undefined });
  });
});

test("a missing folder, and a folder where a file is meant", async () => {
  const missing = join(folder, "absent");
  await expect(directory(missing).read("a")).rejects.toMatchObject({
    code: "E_FILE",
    message: expect.stringContaining(`the folder ${missing} does not exist`),
  });
  await expect(directory(folder).read("1_Pooling")).rejects.toMatchObject({ code: "E_FILE", message: `${folder}/1_Pooling: not a file` });
});

test.each(["../x", "a/../../x", "/etc/passwd", "", "./a", "a//b", "a\\b", "C:x", "a\0"])("refuses the name %j", async (name) => {
  await expect(directory(folder).read(name)).rejects.toMatchObject({
    code: "E_FILE",
    message: expect.stringContaining("is not the name of a file in this folder"),
  });
  await expect(directory(folder).size(name)).rejects.toMatchObject({ code: "E_FILE" });
});

test.runIf(process.platform === "linux")("no file stays open, not even after errors", async () => {
  const files = directory(folder);
  const open = () => readdirSync("/proc/self/fd").length;
  await files.read("empty");
  const before = open();
  await Promise.all(
    Array.from({ length: 50 }, (_, i) => files.read(i % 2 ? "model.safetensors" : "1_Pooling", 0, i % 3 ? 1 : 1e9).catch(() => undefined)),
  );
  expect(open()).toBe(before);
});

test.runIf(process.platform === "linux")("something that is no regular file is refused and not waited for", async () => {
  execFileSync("mkfifo", [join(folder, "pipe")]);
  expect(await directory(folder).size("pipe")).toBeUndefined();
  await expect(directory(folder).read("pipe")).rejects.toMatchObject({ code: "E_FILE", message: `${folder}/pipe: not a file` });
});
