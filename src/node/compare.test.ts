import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeTinyModel } from "../../test/tiny-folder.fixture.js";
import { collect, tinyRows } from "../../test/tiny-model.fixture.js";
import { peft } from "../cli/run-peft.fixture.js";
import { compare } from "./compare.js";

let folder = "";
let options: Parameters<typeof compare>[0] & { out: string };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "compare-"));
  const model = await writeTinyModel(join(folder, "model"));
  const write = async (name: string, first: number, count: number): Promise<string> => {
    const rows = tinyRows(count, first).map((row, i) => ({ ...row, who: i % 2 === 0 ? "even" : "odd", same: 1 }));
    await writeFile(join(folder, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    return join(folder, name);
  };
  options = {
    model,
    data: await write("train.jsonl", 0, 48),
    eval: await write("test.jsonl", 48, 24),
    methods: "lora,head",
    seeds: 1,
    train_sizes: "24,all",
    epochs: 1,
    batch_size: 8,
    resamples: 50,
    group: "who",
    threads: 1,
    out: join(folder, "out"),
  };
});
afterAll(() => rm(folder, { recursive: true }));

/** What happened to each cell and search. */
const told = (events: readonly { readonly event: string }[]): string[] =>
  events.flatMap((each) => {
    const { event, reused, result } = each as { event: string; reused?: boolean; result?: { method: string; size?: number } };
    return event === "cell" || event === "search" ? [`${event} ${result!.method} ${result!.size ?? ""}${reused ? " again" : ""}`] : [];
  });

describe("a comparison", () => {
  it("leaves no record behind where its sizes are none, and needs rows to judge on", async () => {
    const out = join(folder, "never");
    await expect(collect(compare({ ...options, out, train_sizes: "ten" }))).rejects.toThrow(/train_sizes: "ten" is no number of rows/);
    const data = join(folder, "two.jsonl");
    await writeFile(data, '{"text":"a","label":"x"}\n{"text":"b","label":"y"}\n');
    const bare = { ...options, out, data, eval: null, group: null };
    await expect(collect(compare(bare))).rejects.toThrow(/two\.jsonl: 2 rows are too few to hold any out to judge on/);
    await expect(stat(out)).rejects.toThrow(/ENOENT/);
  });

  it("stops at a signal, goes on where it was, and repeats nothing", { timeout: 120_000 }, async () => {
    const stop = new AbortController();
    const loop = compare({ ...options, signal: stop.signal });
    const before: { readonly event: string }[] = [];
    let first: Awaited<ReturnType<typeof loop.next>>;
    for (;;) {
      first = await loop.next();
      if (first.done === true) break;
      before.push(first.value);
      if (first.value.event === "cell") stop.abort();
    }
    expect(told(before)).toEqual(["search lora ", "cell lora 48"]);
    expect(first.value.finished).toBe(false);
    const { events, result } = await collect(compare(options));
    expect(told(events)).toEqual([
      "cell lora 48 again",
      "search head ",
      "cell head 48",
      "search lora  again",
      "cell lora 24",
      "cell head 24",
    ]);
    expect(result.finished).toBe(true);
    const again = await collect(compare(options));
    expect(again.result.comparison.findings).toEqual(result.comparison.findings);
    expect(again.result.comparison.findings.searches.map(({ method, tried }) => [method, tried.length]).sort()).toEqual([
      ["head", 3],
      ["lora", 3],
    ]);
    for (const { tried } of again.result.comparison.findings.searches) {
      const [own, more, last] = tried.map(({ learning_rate, loss }) => ({ rate: learning_rate, loss: loss ?? Number.POSITIVE_INFINITY }));
      expect(more!.rate / own!.rate).toBeCloseTo(3);
      expect(last!.rate / own!.rate).toBeCloseTo(more!.loss < own!.loss ? 10 : 0.3);
    }
    expect(told(again.events)).toEqual(["lora 48", "head 48", "lora 24", "head 24"].map((name) => `cell ${name} again`));
  });

  it("writes reports whose figures are those of peft evaluate on the same adapters, groups included", async () => {
    const cells = join(options.out, "cells");
    expect((await readdir(cells)).sort()).toEqual(["head-seed0-rows24", "head-seed0-rows48", "lora-seed0-rows24", "lora-seed0-rows48"]);
    const report = JSON.parse(await readFile(join(options.out, "report.json"), "utf8"));
    const adapter = join(cells, "lora-seed0-rows48");
    const args = [
      "--model",
      String(options.model),
      "--adapter",
      adapter,
      "--data",
      String(options.eval),
      "--group",
      "who",
      "--threads",
      "1",
    ];
    const [evaluated] = (await peft(["evaluate", ...args, "--json"])).json() as [{ metrics: Record<string, number>; groups: object }];
    const cell = report.cells.find((each: { method: string; size: number }) => each.method === "lora" && each.size === 48);
    for (const [name, value] of Object.entries(evaluated.metrics)) expect(cell.metrics[name].value).toBeCloseTo(value, 10);
    expect(cell.groups.gaps.accuracy).toBeCloseTo((evaluated.groups as { gaps: { accuracy: number } }).gaps.accuracy, 10);
    const own = (
      await Promise.all((await readdir(adapter)).map(async (name) => (name === "result.json" ? 0 : (await stat(join(adapter, name))).size)))
    ).reduce((a, b) => a + b);
    expect(cell.adapter_bytes).toBe(own);
    expect(cell.energy.how).toMatch(cell.energy.measured ? /^RAPL/ : /^estimated: /);
    expect(report.setup.model_sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(await readFile(join(options.out, "report.html"), "utf8")).toContain("Which method for");
  });

  it("refuses a folder of another comparison, naming the difference", async () => {
    await expect(collect(compare({ ...options, epochs: 2 }))).rejects.toThrow(/holds another comparison: training.epochs was 1, now 2/);
  });

  it("drops what the budget has no room for, and says so", { timeout: 60_000 }, async () => {
    const { events, result } = await collect(compare({ ...options, out: join(folder, "short"), budget: "10.5s", seeds: 50 }));
    const dropped = events.find(({ event }) => event === "dropped") as { cells: { seed: number }[] } | undefined;
    expect(dropped!.cells.length).toBeGreaterThan(50);
    expect(dropped!.cells.at(-1)!.seed).toBe(49);
    expect(result.comparison.findings.dropped.length).toBe(dropped!.cells.length);
  });

  it("goes on without a method that the model can't take", { timeout: 60_000 }, async () => {
    const { events, result } = await collect(
      compare({ ...options, out: join(folder, "refused"), methods: "fuse,head", train_sizes: "all" }),
    );
    expect(events.find(({ event }) => event === "refused")).toMatchObject({ method: "fuse" });
    expect(result.comparison.findings.methods.map(({ method }) => method)).toEqual(["head"]);
    expect(result.comparison.findings.sentences).toContain("One method only: there is nothing to compare it with.");
  });
});

describe("other tasks", () => {
  const texts = (row: number): string => String(tinyRows(1, row)[0]!.text);
  const tags = (row: number) => ({
    tokens: texts(row).split(" "),
    tags: texts(row)
      .split(" ")
      .map((word) => (/card|film|hats/.test(word) ? "B-X" : "O")),
  });
  it.each([
    ["token-classification", "bert", tags, "f1"],
    ["text-classification", "bert", (row: number) => ({ text: texts(row), label: row / 8 }), "pearson"],
    ["text-generation", "llama", (row: number) => ({ prompt: texts(row), completion: ` ${texts(row + 1)}` }), "loss"],
    ["fill-mask", "bert", (row: number) => ({ text: texts(row) }), "loss"],
  ] as const)("%s on %s", { timeout: 60_000 }, async (task, family, row, headline) => {
    const model = await writeTinyModel(join(folder, `${task}-${headline}-model`), { family });
    const data = join(folder, `${task}-${headline}.jsonl`);
    await writeFile(data, Array.from({ length: 100 }, (_, i) => `${JSON.stringify(row(i))}\n`).join(""));
    const out = join(folder, `${task}-${headline}`);
    const { result } = await collect(
      compare({ model, data, task, methods: "lora,bitfit", seeds: 1, epochs: 1, batch_size: 16, resamples: 30, threads: 1, out }),
    );
    const { findings } = result.comparison;
    expect(findings).toMatchObject({ headline, eval_rows: 20, refused: [], tests: [{ p: expect.any(Number) }] });
    expect(findings.methods).toHaveLength(2);
    for (const { score } of findings.methods) expect(Number.isFinite(score.value)).toBe(true);
    expect(await readFile(join(out, "report.html"), "utf8")).toContain("<figure>");
  });
});

describe("bad input of peft compare", () => {
  const run = (...args: readonly string[]) =>
    peft(["compare", "--model", String(options.model), "--data", String(options.data), "--out", join(folder, "bad"), ...args]);
  it.each([
    [["--methods", "lora,loar"], /method "loar" is not supported[\s\S]*did you mean "lora"\?.*supported: lora, /],
    [["--budget", "soon"], /budget: "soon" is no time/],
    [["--train-sizes", "10,many"], /train_sizes: "many" is no number of rows/],
    [["--group", "whom"], /no column "whom" to group by/],
    [["--group", "same"], /all rows have "1" as their "same"/],
  ])("%s", async (args, message) => {
    const { code, stderr } = await run(...args);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
  });
});
