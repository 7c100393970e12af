import { execFile } from "node:child_process";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { median, table } from "../bench/report.js";
import { writeTinyModel } from "./tiny-folder.fixture.js";

const root = fileURLToPath(new URL("..", import.meta.url));
let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-bench-test-"));
  await writeTinyModel(join(folder, "model"));
  await mkdir(join(folder, "data/sst2"), { recursive: true });
  await copyFile(join(root, "examples/data/support-train.jsonl"), join(folder, "data/sst2/train.jsonl"));
  const told = { examples_per_s: 0.5, tokens_per_s: 5, first_step_s: 9, last_loss: 1.25, peak_rss_mib: 100 };
  await writeFile(join(folder, "python"), `#!/bin/sh\necho loading\necho '${JSON.stringify(told)}'\n`);
  await chmod(join(folder, "python"), 0o755);
});

afterAll(() => rm(folder, { recursive: true }));

test("median of odd and even counts", () => {
  expect([median([3, 1, 2]), median([4, 1, 2, 3]), median([7])]).toEqual([2, 2.5, 7]);
});

test("the table gives the ratio of each round, not of the medians", () => {
  const run = (rows_per_second: number) => ({
    rows_per_second,
    tokens_per_second: 1,
    first_step_seconds: 2,
    peak_rss_bytes: 3 * 2 ** 20,
    wall_seconds: 4,
    final_loss: 0.5,
    score: null,
  });
  expect(
    table([{ name: "a", ours: [run(10), run(40), run(30)], peer: [run(10), run(10), run(20)] }])
      .split("\n")
      .at(-1),
  ).toBe("| a | 30 / 10 | 1 / 1 | 1.50 (1.00–4.00) | 2.0 / 2.0 | 3 / 3 | 0.500 / 0.500 |");
  expect(
    table([{ name: "b", ours: [run(10)], peer: [] }])
      .split("\n")
      .at(-1),
  ).toBe("| b | 10 / – | 1 / – | – | 2.0 / – | 3 / – | 0.500 / – |");
});

test("both sides run in turns and the results are written", { timeout: 60_000 }, async () => {
  const out = join(folder, "results.json");
  const flags = ["--model", join(folder, "model"), "--data", join(folder, "data"), "--only", "sst2/(lora|seq_bn)/grouped$", "--out", out];
  const sizes = ["--steps", "4", "--rounds", "2", "--batch", "4", "--max-length", "8", "--python", join(folder, "python")];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [join(root, "bench/main.js"), ...flags, ...sizes]);
  expect(stderr.trim().split("\n")).toEqual([
    expect.stringMatching(/^round 1 {2}sst2\/lora\/grouped {2}\d+ \/ 1 rows\/s$/),
    expect.stringMatching(/^round 1 {2}sst2\/seq_bn\/grouped {2}\d+ \/ – rows\/s$/),
    expect.stringMatching(/^round 2 {2}sst2\/lora\/grouped {2}\d+ \/ 1 rows\/s$/),
    expect.stringMatching(/^round 2 {2}sst2\/seq_bn\/grouped {2}\d+ \/ – rows\/s$/),
  ]);
  expect(stdout).toMatch(/^\| sst2\/lora\/grouped \| \d+ \/ [01] \| /m);
  const { results } = JSON.parse(await readFile(out, "utf8"));
  expect(results[0].ours).toHaveLength(2);
  expect(results[0].peer[1]).toMatchObject({ rows_per_second: 0.5, peak_rss_bytes: 100 * 2 ** 20, final_loss: 1.25, score: null });
  expect(results[1].peer).toEqual([]);
  for (const run of results[0].ours) expect(run.rows_per_second).toBeGreaterThan(1);
});

test("cases of language models want a language model, all others an encoder", async () => {
  const listed = async (...flags: readonly string[]): Promise<readonly string[]> =>
    (await promisify(execFile)(process.execPath, [join(root, "bench/main.js"), "--list", ...flags])).stdout.trim().split("\n");
  expect(await listed("--only", "lora-qv")).toEqual([
    ...["kept", "recomputed", "kept-q8", "recomputed-q8"].map((name) => `wikisql_mini/lora-qv/${name}`),
    ...["kept", "recomputed", "kept-q8", "recomputed-q8"].map((name) => `gsm8k/lora-qv/${name}`),
  ]);
  const flags = ["--data", folder, "--model", join(folder, "model"), "--only", "lora-qv"];
  await expect(promisify(execFile)(process.execPath, [join(root, "bench/main.js"), ...flags])).rejects.toMatchObject({ code: 2 });
});

test("without a model it says how to call it", async () => {
  await expect(promisify(execFile)(process.execPath, [join(root, "bench/main.js")])).rejects.toMatchObject({
    code: 2,
    stdout: expect.stringContaining("npm run bench -- --model FOLDER"),
  });
});

test("switching.js measures times and memory", { timeout: 120_000 }, async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [join(root, "bench/switching.js"), join(folder, "model"), "1", "3"]);
  for (const name of ["first prediction after a switch to an adapter of equal structure, ms", "for each adapter, MB"])
    expect(stdout).toMatch(new RegExp(`^${name}: -?\\d+\\.\\d\\d \\(`, "m"));
});
