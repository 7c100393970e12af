import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse as parseYaml } from "yaml";
import { failure } from "../../test/failure.fixture.js";
import { writeTinyModel } from "../../test/tiny-folder.fixture.js";
import { collect, tinyRows } from "../../test/tiny-model.fixture.js";
import type { Row } from "../data/rows.js";
import { CheckpointError, ConfigError, DataError, FileError, ModelError } from "../errors.js";
import { directory } from "../io/directory.js";
import { openSafetensors } from "../io/safetensors.js";
import { version } from "../version.js";
import { loadAdapter, loadModel } from "./load-model.js";
import { pipeline } from "./pipeline.js";
import { type TrainOptions, train } from "./train.js";

let folder: string;
let model: string;
let data: string;
let out: string;
let job: TrainOptions;
let trained: Awaited<ReturnType<typeof collect<unknown, unknown>>>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-train-"));
  model = await writeTinyModel(join(folder, "model"));
  data = await jsonl("rows.jsonl", tinyRows(60));
  out = join(folder, "out");
  job = { model, data, out, batch_size: 8, learning_rate: 3e-2, max_steps: 40, threads: 1, set: { r: 4, target_modules: "all-linear" } };
  trained = await collect(train({ ...job, save_steps: 10 }));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function jsonl(name: string, rows: readonly Row[]): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return path;
}

const json = async (name: string): Promise<Record<string, unknown>> => JSON.parse(await readFile(join(out, name), "utf8"));
const run = (changes: Partial<TrainOptions>) => collect(train({ ...job, out: join(folder, "other"), ...changes }));

describe("a finished training", () => {
  it("writes these files, and no others", async () => {
    expect((await readdir(out)).sort()).toEqual(
      [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "checkpoint-30",
        "checkpoint-40",
        "log.jsonl",
        "training.json",
      ].sort(),
    );
    expect((await readdir(join(out, "checkpoint-40"))).sort()).toEqual([
      ...["adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors", "params.safetensors"],
      "trainer_state.json",
    ]);
  });

  it("yields events and logs the same", async () => {
    const { events, result } = trained as { events: { event: string; metrics?: object }[]; result: object };
    const lines = (await readFile(join(out, "log.jsonl"), "utf8")).trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line))).toEqual(JSON.parse(JSON.stringify(events)));
    expect(events[0]).toMatchObject({ event: "start", model, train_rows: 54, eval_rows: 6, labels: ["card", "film", "hats"], steps: 40 });
    expect(events.filter(({ event }) => event === "step")).toHaveLength(40);
    expect(events.at(-1)).toMatchObject({ event: "end", step: 40, adapter: out, peak_rss_bytes: expect.any(Number) });
    expect(result).toMatchObject({ path: out, finished: true, metrics: events.at(-1)!.metrics });
  });

  it("says in training.json how it was made", async () => {
    const record = await json("training.json");
    expect(record).toMatchObject({
      task: "text-classification",
      labels: ["card", "film", "hats"],
      base_model: { id: model, revision: null, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
      method: "lora",
      method_config: { r: 4, lora_alpha: 8 },
      options: { batch_size: 8, learning_rate: 3e-2, max_steps: 40, data, eval: null },
      metrics: { accuracy: expect.any(Number) },
      steps: 40,
      seed: 0,
      intervals: { accuracy: { low: expect.any(Number), high: 1 } },
      groups: null,
      energy: { joules: expect.any(Number), measured: expect.any(Boolean), how: expect.any(String), co2_grams: expect.any(Number) },
      versions: { "peft.js": version, node: process.versions.node },
    });
  });

  it("writes a model card with a head of YAML", async () => {
    const card = await readFile(join(out, "README.md"), "utf8");
    const [, head, text] = /^---\n([\s\S]*?)---\n([\s\S]*)$/.exec(card)!;
    expect(parseYaml(head!)).toMatchObject({ library_name: "peft", pipeline_tag: "text-classification", tags: ["peft.js", "lora"] });
    expect(parseYaml(head!)["model-index"]).toMatchObject([
      {
        results: [
          { task: { type: "text-classification" }, dataset: { name: "rows.jsonl", type: "rows" }, metrics: [{ type: "accuracy" }, {}, {}] },
        ],
      },
    ]);
    expect(text).toContain("lora adapter for text-classification");
    expect(text).toMatch(/\| accuracy \| [\d.]+ \| [\d.]+ to 1\.0000 \|/);
    expect(text).toMatch(/Energy of the training: [\d.]+ kJ/);
    expect(text).toContain("## Intended use");
    expect(text).toContain("6 rows held out");
  });

  it("gives an adapter that has learned, and comes back from its files", async () => {
    const classify = await pipeline("text-classification", { model, adapter: out, threads: 1 });
    const rows = tinyRows(12, 60);
    const predictions = await classify(rows.map(({ text }) => text as string));
    expect(predictions.filter(({ label }, i) => label === rows[i]!.label).length).toBeGreaterThanOrEqual(10);
    const alone = await classify(rows[0]!.text as string);
    expect(alone).toEqual({ label: predictions[0]!.label, score: expect.closeTo(predictions[0]!.score as number, 5) });
    await classify.dispose();
  });

  it("is in its last checkpoint too", async () => {
    const whole = await readFile(join(out, "adapter_model.safetensors"));
    expect(Buffer.compare(await readFile(join(out, "checkpoint-40", "adapter_model.safetensors")), whole)).toBe(0);
    const { tensors } = await openSafetensors(directory(out), "adapter_model.safetensors");
    expect(tensors.get("base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight")!.shape).toEqual([4, 16]);
  });

  it("can be resumed, and then ends at once with the same", async () => {
    const before = await readFile(join(out, "adapter_model.safetensors"));
    const log = await readFile(join(out, "log.jsonl"), "utf8");
    const { events, result } = await collect(train({ ...job, save_steps: 10, resume: true }));
    expect(events.map(({ event }) => event)).toEqual(["start", "end"]);
    expect(result.metrics).toEqual((trained.result as { metrics: object }).metrics);
    expect(Buffer.compare(await readFile(join(out, "adapter_model.safetensors")), before)).toBe(0);
    const steps = (text: string): number => text.split("\n").filter((line) => line.includes('"event":"step"')).length;
    expect(steps(await readFile(join(out, "log.jsonl"), "utf8"))).toBe(steps(log));
  });
});

describe("an interrupt", () => {
  it("leaves a checkpoint and no adapter; resumed, the run ends as one that was not interrupted", async () => {
    const other = join(folder, "interrupted");
    const abort = new AbortController();
    const loop = train({ ...job, out: other, signal: abort.signal });
    for (;;) {
      const { value, done } = await loop.next();
      if (done === true) {
        expect(value.finished).toBe(false);
        break;
      }
      if (value.event === "step" && value.step === 17) abort.abort();
    }
    expect((await readdir(other)).sort()).toEqual(["checkpoint-14", "checkpoint-17", "log.jsonl"]);
    await collect(train({ ...job, out: other, resume: true }));
    const [mine, theirs] = await Promise.all([other, out].map((path) => readFile(join(path, "adapter_model.safetensors"))));
    expect(Buffer.compare(mine!, theirs!)).toBe(0);
    const log = (await readFile(join(other, "log.jsonl"), "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(log.filter(({ event }) => event === "step").map(({ step }) => step)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    expect(log.some(({ event }) => event === "interrupted")).toBe(false);
  });
});

describe("a wrong job", () => {
  it("names unknown options and the nearest known one", async () => {
    const error = await failure(() => run({ learning_rat: 1 } as object));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain('"learning_rat" is not known');
    expect(error.hint).toContain('did you mean "learning_rate"');
    const field = await failure(() => run({ set: { lora_alfa: 1 } }));
    expect(field.message).toContain('"lora_alfa" is not known');
    expect(field.hint).toContain('did you mean "lora_alpha"');
  });

  it("names options that do not fit, all of them", async () => {
    const error = await failure(() => run({ batch_size: 0, epochs: -1 }));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain('"batch_size"');
    expect(error.message).toContain('"epochs"');
  });

  it("names unknown methods and tasks", async () => {
    expect((await failure(() => run({ method: "lorra" }))).hint).toContain('did you mean "lora"');
    expect((await failure(() => run({ task: "text-clasification" }))).hint).toContain('did you mean "text-classification"');
  });

  it("says which columns are needed", async () => {
    const rows = await jsonl("columns.jsonl", [{ utterance: "a", intent: "b" }]);
    const error = await failure(() => run({ data: rows }));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain("utterance, intent");
    expect(error.hint).toContain("text=utterance");
  });

  it("fails before training on files that are missing or broken", async () => {
    expect(await failure(() => run({ data: join(folder, "none.jsonl") }))).toBeInstanceOf(FileError);
    expect(await failure(() => run({ model: join(folder, "none") }))).toBeInstanceOf(FileError);
    const broken = join(folder, "broken.jsonl");
    await writeFile(broken, `${'{"text":"a","label":"b"}\n'.repeat(6)}{"text":\n`);
    const error = await failure(() => run({ data: broken }));
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toContain("broken.jsonl:7");
    const evalRows = await jsonl("eval.jsonl", [...tinyRows(2), { text: "my card", label: "unknown" }]);
    expect((await failure(() => run({ eval: evalRows }))).message).toContain("eval.jsonl:3");
  });

  it("of a folder that cannot be written to fails first", async () => {
    const error = await failure(() => run({ out: join(data, "below"), data: "missing.jsonl" }));
    expect(error).toBeInstanceOf(FileError);
    expect(error.message).toContain("cannot write to");
  });

  it("cannot be resumed with other options, data or base, or without a checkpoint", async () => {
    const none = await failure(() => collect(train({ ...job, out: join(folder, "nothing"), resume: true })));
    expect(none).toBeInstanceOf(CheckpointError);
    const rows = await jsonl("fewer.jsonl", tinyRows(57));
    const base = await writeTinyModel(join(folder, "base"), { seed: 2 });
    for (const [changes, what] of [
      [{ batch_size: 4 }, "options.batch_size: was 8, now 4"],
      [{ set: { r: 2 } }, "config.r: was 4, now 2"],
      [{ data: rows }, "data: was "],
      [{ model: base }, "base_sha256: was "],
    ] as const) {
      const error = await failure(() => collect(train({ ...job, resume: true, ...changes })));
      expect(error).toBeInstanceOf(CheckpointError);
      expect(error.message).toContain(what);
    }
  });
});

describe("an adapter", () => {
  it("of another base is refused, with all that differs", async () => {
    const other = await writeTinyModel(join(folder, "wide"), { config: { hidden_size: 24 } });
    const loaded = await loadModel(other, { threads: 1 });
    const error = await failure(() => loadAdapter(loaded, out));
    expect(error.message).toContain("lora_A.weight: [4,16], expected [4,24]");
    expect(error.hint).toContain(model);
    await loaded.close();
  });
});

describe("pipeline", () => {
  it("uses a base model's own head and labels", async () => {
    const id2label = { 0: "no", 1: "yes" };
    const path = await writeTinyModel(join(folder, "classifier"), { labels: 2, config: { id2label } });
    const classify = await pipeline("text-classification", { model: path, threads: 1 });
    const [first, second] = await classify(["my card", { text: "my card", text_pair: "all hats" }]);
    expect(Object.values(id2label)).toContain(first!.label);
    expect(first!.score).toBeGreaterThanOrEqual(0.5);
    expect(second!.score).not.toBe(first!.score);
    const alone = await classify({ text: "my card", text_pair: "all hats" });
    expect(alone).toEqual({ label: second!.label, score: expect.closeTo(second!.score as number, 5) });
    await classify.dispose();
  });

  it("needs a head", async () => {
    const error = await failure(() => pipeline("text-classification", { model, threads: 1 }));
    expect(error).toBeInstanceOf(ModelError);
    expect(error.message).toContain("has no trained head for text-classification");
  });

  it("knows its task only", async () => {
    const error = await failure(() => pipeline("paint-roses", { model }));
    expect(error).toBeInstanceOf(ConfigError);
    expect(error.message).toContain('"paint-roses"');
  });

  it("leaves a model open that was given open", async () => {
    const loaded = await loadModel(model, { threads: 1 });
    const first = await pipeline("text-classification", { model: loaded, adapter: out });
    const { label } = await first("how many hats");
    await first.dispose();
    const second = await pipeline("text-classification", { model: loaded, adapter: out });
    expect((await second("how many hats")).label).toBe(label);
    await second.dispose();
    await loaded.close();
  });
});
