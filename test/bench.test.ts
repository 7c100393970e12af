import { execFile } from "node:child_process";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeBertBase } from "../bench/bert-base.js";
import { cases } from "../bench/cases.js";
import { runOurs } from "../bench/programs.js";
import { median, table } from "../bench/report.js";
import { writeTinyModel } from "./tiny-folder.fixture.js";

const root = fileURLToPath(new URL("..", import.meta.url));
let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-bench-test-"));
  await writeTinyModel(join(folder, "model"));
  await mkdir(join(folder, "data/sst2"), { recursive: true });
  await copyFile(join(root, "examples/data/support-train.jsonl"), join(folder, "data/sst2/train.jsonl"));
  const told = { examples_per_s: 0.5, tokens_per_s: 5, first_step_s: 9, last_loss: 1.25, peak_rss_mib: 100, import_rss_mib: 40 };
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
    import_rss_bytes: 1 * 2 ** 20,
    wall_seconds: 4,
    final_loss: 0.5,
    score: null,
  });
  expect(
    table([{ name: "a", ours: [run(10), run(40), run(30)], peer: [run(10), run(10), run(20)] }])
      .split("\n")
      .at(-1),
  ).toBe("| a | 30 / 10 | 1 / 1 | 1.50 (1.00–4.00) | 2.0 / 2.0 | 3 / 3 | 2 / 2 | 0.500 / 0.500 |");
  expect(
    table([{ name: "b", ours: [run(10)], peer: [] }])
      .split("\n")
      .at(-1),
  ).toBe("| b | 10 / – | 1 / – | – | 2.0 / – | 3 / – | 2 / – | 0.500 / – |");
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
  expect(results[0].peer[1].import_rss_bytes).toBe(40 * 2 ** 20);
  for (const run of results[0].ours) expect(run.import_rss_bytes).toBeLessThan(run.peak_rss_bytes);
  const figure = await readFile(join(folder, "results-ratios.svg"), "utf8");
  expect(figure).toContain('<svg xmlns="http://www.w3.org/2000/svg"');
  expect(figure).toMatch(/Medians: sst2\/lora\/grouped \d+\.\d\d\./);
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

const bench = async (...flags: readonly string[]): Promise<string> => {
  const common = ["--model", join(folder, "model"), "--data", join(folder, "data"), "--max-length", "8", "--out", join(folder, "out.json")];
  return (await promisify(execFile)(process.execPath, [join(root, "bench/main.js"), ...common, ...flags])).stdout;
};
interface Told {
  readonly profiles: readonly import("../bench/profile.js").Profile[];
  readonly points: readonly import("../bench/scaling.js").Point[];
  readonly samples: readonly import("../bench/scaling.js").Sample[];
  readonly results: readonly import("../bench/inference.js").Way[];
}
const told = async (): Promise<Told> => JSON.parse(await readFile(join(folder, "out.json"), "utf8"));

test("8 bits are also compared with the peer's bfloat16, LoRA's only", () => {
  const autocast = cases.filter(({ peer }) => peer.includes("--bf16"));
  expect(autocast.filter(({ data }) => data === "banking77" || data === "rows").map(({ name }) => name)).toEqual([
    ...["grouped", "random"].map((batching) => `banking77/lora/${batching}-q8-bf16`),
    "bert-base/lora/full-rows-q8-bf16",
  ]);
  for (const { ours } of autocast) expect(ours).toContain("q8");
});

test("a model of BERT's shape is made with rows that fill every place", { timeout: 60_000 }, async () => {
  const own = join(folder, "bert");
  await mkdir(own);
  await writeBertBase(own, join(folder, "model"), { hidden: 16, layers: 1, heads: 2, inner: 32, positions: 16 });
  const setting = { model: join(own, "model"), data: join(own, "rows"), steps: 3, epochs: 0, batch: 4, maxLength: 12, threads: 1, seed: 0 };
  const { tokens_per_second, rows_per_second } = await runOurs(setting, ["--no-group-by-length"]);
  expect(tokens_per_second / rows_per_second).toBeCloseTo(12, 6);
});

test("--profile parts a step into phases, ops and matrix products", { timeout: 60_000 }, async () => {
  const tables = await bench("--profile", "--only", "sst2/lora/grouped(-q8)?$", "--batch", "4");
  expect(tables).toMatch(/^\| forward \| \d+\.\d \| \d+ % \|$/m);
  expect(tables).toMatch(/^All products: .* GFLOP, .* the step as a whole \d+ %\.$/m);
  const { profiles } = await told();
  const [exact, stored] = [profiles[0]!, profiles[1]!];
  for (const { phases, rows, ops } of profiles) {
    expect(rows).toBe(4);
    expect(Math.min(phases.forward!, phases.backward!)).toBeGreaterThan(0);
    expect(ops.reduce((sum, each) => sum + each.forward, 0)).toBeCloseTo(phases.forward!, 0);
  }
  expect(exact.products.every((each) => each.kind === "f32" && each.alone > 0)).toBe(true);
  expect(stored.products.some((each) => each.kind === "int8" && each.alone > 0)).toBe(true);
  // the first layer's three projections, forward: T tokens of the model's hidden size
  const { tokens } = exact;
  expect(exact.products).toContainEqual(expect.objectContaining({ batch: 1, M: tokens, K: 16, N: 16 }));
});

test("--scaling multiplies each quantity and watches memory over steps", { timeout: 120_000 }, async () => {
  await mkdir(join(folder, "data/banking77"), { recursive: true });
  await copyFile(join(root, "examples/data/support-train.jsonl"), join(folder, "data/banking77/train.jsonl"));
  const tables = await bench("--scaling", "--only", "adapters|steps", "--rounds", "1", "--steps", "200");
  expect(tables).toMatch(/^\| adapters \| 16 \(16×\) \|/m);
  const { points, samples } = await told();
  expect(points.map(({ quantity, value }) => `${quantity} ${value}`)).toEqual(["adapters 1", "adapters 4", "adapters 16"]);
  expect(samples.map(({ step }) => step)).toEqual([100, 200]);
  for (const name of ["time", "peak-memory", "memory"]) expect(await readFile(join(folder, `out-${name}.svg`), "utf8")).toContain("<svg");
});

test("--inference predicts the test rows with float32 and 8-bit matrices", { timeout: 120_000 }, async () => {
  await copyFile(join(root, "examples/data/support-train.jsonl"), join(folder, "data/sst2/test.jsonl"));
  const table = await bench("--inference", "--only", "sst2", "--rounds", "1");
  expect(table).toMatch(/^\| sst2, 320 rows \| f32 \| \d+ \| – \| – \|/m);
  const { results } = await told();
  expect(results.map(({ way, same }) => [way, same! > 0.9])).toEqual([
    ["f32", true],
    ["q8", true],
  ]);
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
