import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { writeTinyModel } from "../../test/tiny-folder.fixture.js";
import { tinyRows } from "../../test/tiny-model.fixture.js";
import { version } from "../version.js";
import { peft } from "./run-peft.fixture.js";

let folder = "";
const at = (name: string): string => join(folder, name);
const rows = tinyRows(36);
/** How the tiny model learns the tiny rows well. */
const learning = ["--learning-rate", "0.03", "--batch-size", "8", "--epochs", "6", "--set", "target_modules=all-linear"];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "peft-cli-"));
  vi.stubEnv("HF_HOME", at("cache"));
  vi.stubEnv("PEFT_HOME", at("peft-home"));
  await writeTinyModel(at("model"));
  await writeFile(at("rows.jsonl"), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
});

afterAll(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

describe("train, then evaluate and predict", () => {
  test("train --json prints events only, and writes the adapter", async () => {
    const run = await peft([
      "train",
      "--model",
      at("model"),
      "--data",
      at("rows.jsonl"),
      "--eval",
      at("rows.jsonl"),
      "--out",
      at("adapter"),
      ...learning,
      "--json",
    ]);
    expect(run.code).toBe(0);
    const events = run.json();
    expect(events[0]).toMatchObject({ event: "start", train_rows: 36, eval_rows: 36, labels: ["card", "film", "hats"], steps: 30 });
    const steps = events.filter(({ event }) => event === "step");
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1));
    for (const key of ["loss", "learning_rate", "grad_norm", "examples_per_second", "tokens_per_second"])
      expect(steps[0]![key]).toBeTypeOf("number");
    expect(events.at(-1)).toMatchObject({ event: "end", adapter: at("adapter"), metrics: { accuracy: 1 } });
    expect(await readdir(at("adapter"))).toEqual(
      expect.arrayContaining(["README.md", "adapter_config.json", "adapter_model.safetensors", "log.jsonl", "training.json"]),
    );
  });

  test("evaluate --json is one document", async () => {
    const run = await peft(["evaluate", "--model", at("model"), "--adapter", at("adapter"), "--data", at("rows.jsonl"), "--json"]);
    expect(run.json()).toEqual([
      {
        task: "text-classification",
        rows: 36,
        loss: expect.any(Number),
        metrics: { accuracy: 1, macro_f1: 1, matthews: expect.closeTo(1, 6) },
        seconds: expect.any(Number),
      },
    ]);
    expect([run.code, run.stderr]).toEqual([0, ""]);
  });

  test("predict gives a line a text, in their order", async () => {
    const run = await peft([
      "predict",
      "--model",
      at("model"),
      "--adapter",
      at("adapter"),
      "--logits",
      "all the hats are 20 per week",
      "my card is new",
    ]);
    expect(run.json()).toEqual(
      ["hats", "card"].map((label) => ({
        label,
        score: expect.any(Number),
        logits: [expect.any(Number), expect.any(Number), expect.any(Number)],
      })),
    );
  });

  test("predict --output writes the same lines to a file", async () => {
    const run = await peft([
      "predict",
      "--model",
      at("model"),
      "--adapter",
      at("adapter"),
      "--input",
      at("rows.jsonl"),
      "--output",
      at("predictions.jsonl"),
    ]);
    expect([run.code, run.stdout]).toEqual([0, ""]);
    const labels = (await readFile(at("predictions.jsonl"), "utf8"))
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { label: string }).label);
    expect(labels).toEqual(rows.map(({ label }) => label));
  });

  test("for people there are words, and on a terminal a line that is replaced", async () => {
    const run = await peft(["train", "--model", at("model"), "--data", at("rows.jsonl"), "--out", at("words"), "--max-steps", "3"], {
      terminal: true,
    });
    expect(run.stdout).toMatch(/^lora on .*: [\d,]+ of [\d,]+ parameters trained \(.* %\)\n/);
    expect(run.stdout).toMatch(/done in \d+ s; adapter in /);
    const shown = run.stderr.split("\r\x1b[2K").filter((text) => text !== "");
    expect(shown).toHaveLength(3);
    expect(shown[2]).toMatch(/^█{20} {2}step 3\/3 {2}loss \d\.\d{4} {2}\d+ rows\/s {2}0 s left$/);
    expect(Math.max(...shown.map((text) => text.length))).toBeLessThan(80);
  });

  test("the first Ctrl-C saves and says how to go on; going on ends as the unbroken run does", async () => {
    const args = ["train", "--model", at("model"), "--data", at("rows.jsonl"), "--out", at("stopped"), ...learning, "--json"];
    const unbroken = await peft(args.map((word) => (word === at("stopped") ? at("unbroken") : word)));
    const stopped = await peft(
      args.filter((word) => word !== "--json"),
      { onNote: (text, interrupt) => text.startsWith("step 1/") && interrupt() },
    );
    expect(stopped.code).toBe(130);
    expect(stopped.stderr).toMatch(
      /finishing the step under way, then saving; Ctrl-C again to stop at once\n(.*\n)*stopped after step \d, all saved; to go on, add --resume/,
    );
    const resumed = await peft([...args, "--resume"]);
    expect(resumed.code).toBe(0);
    const losses = (run: typeof resumed): unknown[] =>
      run
        .json()
        .filter(({ event }) => event === "step")
        .map(({ loss }) => loss);
    expect(losses(resumed).length).toBeGreaterThan(20);
    expect(losses(resumed)).toEqual(losses(unbroken).slice(-losses(resumed).length));
  });
});

describe("inspect", () => {
  test("a model", async () => {
    const run = await peft(["inspect", at("model"), "--json"]);
    const [model] = run.json();
    expect(model).toMatchObject({
      kind: "model",
      model_type: "bert",
      layers: 2,
      hidden_size: 16,
      heads: 2,
      max_length: 32,
      revision: null,
    });
    expect(model).toMatchObject({
      weights: { dtypes: { F32: { parameters: model!.parameters } } },
      tokenizer: { vocab_size: 282, special_tokens: { cls: "[CLS]", sep: "[SEP]" } },
    });
    expect(model!.tasks).toEqual(
      ["text-classification", "token-classification", "fill-mask"].map((task) => ({ task, head: "fresh", labels: null, new_modules: [] })),
    );
    expect(model!.linear_layers).toContainEqual({
      role: "up",
      path: "bert.encoder.layer.*.intermediate.dense",
      count: 2,
      in_features: 16,
      out_features: 24,
    });
  });

  test("a method: what it would attach to, and train", async () => {
    const run = await peft([
      "inspect",
      at("model"),
      "--method",
      "lora",
      "--set",
      "r=4",
      "--batch-size",
      "2",
      "--max-length",
      "8",
      "--json",
    ]);
    const { method } = run.json()[0] as { method: Readonly<Record<string, unknown>> };
    // Each of two layers: A [4, 16] and B [16, 4].
    expect(method.attached).toEqual(
      ["query", "value"].map((role) => ({
        role,
        path: `bert.encoder.layer.*.attention.self.${role}`,
        count: 2,
        in_features: 16,
        out_features: 16,
        parameters: 256,
      })),
    );
    expect(method).toMatchObject({
      method: "lora",
      saved_modules: ["classifier"],
      trained_parameters: 512 + 2 * 16 + 2,
      config: { r: 4 },
      base_dtype: "f32",
      memory: { batch_size: 2, max_length: 8 },
    });
    expect(method.step).toBeUndefined();
  });

  test("a method: the options of training that change what a step takes, and its time", async () => {
    const options = [
      "--max-tokens-per-batch",
      "20",
      "--max-length",
      "8",
      "--base-dtype",
      "q8",
      "--recompute",
      "--dropout",
      "0.1",
      "--threads",
      "1",
    ];
    const args = ["inspect", at("model"), "--method", "lora", ...options, "--calibrate"];
    const { method } = (await peft([...args, "--json"])).json()[0] as { method: Readonly<Record<string, unknown>> };
    expect(method).toMatchObject({ base_dtype: "q8", memory: { batch_size: 2, max_length: 8, laid_out_bytes: 0 } });
    const { step_seconds, noise_seconds } = method.step as Readonly<Record<string, number>>;
    expect(noise_seconds).toBeGreaterThan(0);
    expect(step_seconds).toBeGreaterThan(noise_seconds!);
    expect((await peft(args)).stdout).toMatch(/batches of 2 texts of 8 tokens[\s\S]*time of a training step[\s\S]*in all, about/);
  });

  test("a time is that of a method's step", async () => {
    const run = await peft(["inspect", at("model"), "--calibrate"]);
    expect([run.code, run.stderr]).toEqual([2, expect.stringContaining("--method")]);
    const threads = await peft(["inspect", at("model"), "--method", "lora", "--threads", "1"]);
    expect([threads.code, threads.stderr]).toEqual([2, expect.stringContaining("--threads is for what --calibrate times")]);
  });

  test("an adapter", async () => {
    const [adapter] = (await peft(["inspect", at("adapter"), "--json"])).json();
    expect(adapter).toMatchObject({
      kind: "adapter",
      method: "lora",
      task: "text-classification",
      base_model: at("model"),
      labels: ["card", "film", "hats"],
      metrics: { accuracy: 1 },
      config: { r: 8 },
    });
    expect(adapter!.tensors).toMatchObject({ "base_model.model.classifier.weight": { dtype: "F32", shape: [3, 16] } });
  });

  test("for people, each in words", async () => {
    expect((await peft(["inspect", at("model"), "--method", "lora"])).stdout).toMatch(
      /bert, 2 layers[\s\S]*query +2× [\s\S]*in all, about/,
    );
    expect((await peft(["inspect", at("adapter")])).stdout).toMatch(
      /method +lora[\s\S]*lora_alpha +8[\s\S]*classifier\.weight +F32 +\[3, 16\]/,
    );
  });
});

describe("data", () => {
  test("check finds nothing in good rows", async () => {
    const run = await peft(["data", "check", "--data", at("rows.jsonl"), "--model", at("model"), "--json"]);
    expect(run.code).toBe(0);
    expect(run.json()[0]).toMatchObject({
      task: "text-classification",
      fault_count: 0,
      faults: [],
      train: { rows: 36, labels: { card: 12, film: 12, hats: 12 }, lengths: { limit: 32, cut: 0 } },
    });
  });

  test("check lists faults with file and line, and fails", async () => {
    await writeFile(at("faulty.jsonl"), `{"text":"a","label":"x"}\n{"text":" ","label":"x"}\n{"text":"a","label":"y"}\n`);
    const run = await peft(["data", "check", "--data", at("faulty.jsonl")]);
    expect(run.code).toBe(1);
    expect(run.stdout).toContain(`${at("faulty.jsonl")}:2: "text" is empty`);
    expect(run.stdout).toContain(`${at("faulty.jsonl")}:3: the same text as ${at("faulty.jsonl")}:1, but labelled "y", there "x"`);
    expect(run.stdout).toContain("2 faults");
  });

  test("preview shows tokens, labels and lengths", async () => {
    const run = await peft(["data", "preview", "--data", at("rows.jsonl"), "--model", at("model"), "--rows", "2", "--json"]);
    const [preview] = run.json() as [{ shown: { tokens: { text: string }[] }[] }];
    expect(preview).toMatchObject({
      rows: 36,
      labels: ["card", "film", "hats"],
      shown: [{ labels: ["card"], label_ids: [0], where: `${at("rows.jsonl")}:1` }, { labels: ["film"] }],
    });
    expect(preview.shown[0]!.tokens[0]).toEqual({ id: expect.any(Number), text: "[CLS]", special: true, type: 0, loss: true });
    expect(preview.shown[0]!.tokens[1]).toMatchObject({ text: "my", special: false, loss: false });
    const words = await peft(["data", "preview", "--data", at("rows.jsonl"), "--model", at("model")], { terminal: true });
    expect(words.stdout).toContain("\x1b[2m\x1b[4m[CLS]\x1b[24m\x1b[22m my card is new");
  });
});

describe("pull and doctor", () => {
  test("pull of a local folder says where it lies, with the weights' hash", async () => {
    const [pulled] = (await peft(["pull", at("model"), "--json"])).json();
    expect(pulled).toMatchObject({
      kind: "model",
      source: "directory",
      path: at("model"),
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect((pulled!.files as { name: string }[]).map(({ name }) => name)).toEqual([
      "config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
  });

  test("doctor finds that training works, and says what the missing network means", async () => {
    vi.stubEnv("HF_ENDPOINT", "http://127.0.0.1:9");
    const run = await peft(["doctor", "--json"]);
    vi.stubEnv("HF_ENDPOINT", undefined);
    expect(run.code).toBe(0);
    const { works, findings } = run.json()[0] as {
      works: boolean;
      findings: { name: string; status: string; hint: string | null; facts: { gflops?: number } }[];
    };
    expect(works).toBe(true);
    expect(findings.map(({ name }) => name)).toEqual(["Node.js", "processor", "ONNX Runtime", "memory", "disk", "hub", "pip", "models"]);
    const byName = new Map(findings.map((each) => [each.name, each]));
    expect(byName.get("ONNX Runtime")!.facts.gflops).toBeGreaterThan(0.1);
    expect(byName.get("hub")).toMatchObject({ status: "warn", facts: { reachable: false }, hint: expect.stringContaining("HF_ENDPOINT") });
  });
});

describe("quickstart", () => {
  test("goes the whole way, in a folder that git ignores", async () => {
    const run = await peft(["quickstart", "--model", at("model"), "--out", at("quick"), "--epochs", "0.1", "--json"]);
    expect(run.code).toBe(0);
    const lines = run.json();
    expect(lines[0]).toMatchObject({ event: "start", train_rows: 320, eval_rows: 96, eval_source: "given" });
    expect(lines.at(-2)).toMatchObject({ event: "end", adapter: at("quick") });
    expect(lines.at(-1)).toMatchObject({
      task: "text-classification",
      rows: 96,
      metrics: { accuracy: expect.any(Number) },
      before: { accuracy: expect.any(Number) },
    });
    expect(lines.at(-1)!.predictions).toHaveLength(3);
    expect(await readFile(join(at("quick"), ".gitignore"), "utf8")).toBe("*\n");

    // The three sentences are in neither file of the sample data.
    const texts = (run.json().at(-1)!.predictions as { text: string }[]).map(({ text }) => text);
    for (const name of ["support-train.jsonl", "support-test.jsonl"]) {
      const known = await readFile(new URL(`../../examples/data/${name}`, import.meta.url), "utf8");
      for (const text of texts) expect(known.toLowerCase()).not.toContain(text.toLowerCase().slice(0, 30));
    }
  });
});

describe("the frame", () => {
  test("no verb: a short help with examples, and success", async () => {
    const run = await peft([]);
    expect(run.code).toBe(0);
    expect(run.stdout).toContain("peft train --data rows.jsonl --out my-adapter");
    expect(run.stdout).toContain("data preview");
  });

  test("help in all its spellings", async () => {
    const [a, b] = [await peft(["help", "train"]), await peft(["train", "--help"])];
    expect(a).toMatchObject({ code: 0, stderr: "", stdout: b.stdout });
    expect((await peft(["help"])).stdout).toBe((await peft(["--help"])).stdout);
    expect((await peft(["help", "data", "check"])).stdout).toContain("Usage: peft data check");
    expect((await peft(["--version"])).stdout).toBe(`${version}\n`);
  });

  test("colours on a terminal only, and never against NO_COLOR", async () => {
    const colour = (text: string): boolean => text.includes("\x1b[31m");
    const bad = ["train", "--epochs", "many"];
    expect(colour((await peft(bad)).stderr)).toBe(false);
    expect(colour((await peft(bad, { terminal: true })).stderr)).toBe(true);
    expect(colour((await peft(bad, { terminal: true, env: { NO_COLOR: "1" } })).stderr)).toBe(false);
    expect((await peft(["inspect", at("model")], { terminal: true })).stdout).toContain("\x1b[1m");
    expect((await peft(["inspect", at("model")])).stdout).not.toContain("\x1b");
  });
});
