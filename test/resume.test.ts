import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { writeTinyModel } from "./tiny-folder.fixture.js";
import { tinyRows } from "./tiny-model.fixture.js";

const cli = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const steps = 90;
let folder: string;
let flags: readonly string[];
const running = new Set<ChildProcess>();

beforeAll(async () => {
  if (!existsSync(cli)) throw new Error("dist is missing: npm run build");
  folder = await mkdtemp(join(tmpdir(), "peft-resume-"));
  const model = await writeTinyModel(join(folder, "model"));
  const data = join(folder, "rows.jsonl");
  await writeFile(
    data,
    tinyRows(50)
      .map((row) => `${JSON.stringify(row)}\n`)
      .join(""),
  );
  flags = [
    ...["train", "--json", "--model", model, "--data", data, "--max-steps", String(steps), "--batch-size", "4", "--threads", "1"],
    ...["--gradient-accumulation-steps", "2", "--save-steps", "4", "--eval-steps", "7", "--learning-rate", "0.02", "--dropout", "model"],
    ...["--weight-decay", "0.1", "--early-stopping-patience", "100", "--set", "lora_dropout=0.1"],
  ];
});
afterAll(async () => {
  for (const child of running) child.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true });
});

/** Runs a training; kills it, as the system would, when it has told of step `killAt`. Returns the last step it told of. */
async function trainUntil(out: string, killAt: number, ...more: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [cli, ...flags, "--out", out, ...more], { stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  let last = 0;
  let errors = "";
  child.stderr.on("data", (text) => {
    errors += text;
  });
  createInterface(child.stdout).on("line", (line) => {
    if (child.killed) return; // the last line may be cut off
    const event = JSON.parse(line) as { event: string; step?: number };
    if (event.event !== "step") return;
    last = event.step!;
    if (last >= killAt) child.kill("SIGKILL");
  });
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => {
    child.on("close", (...ended) => resolve(ended));
  });
  running.delete(child);
  expect(signal ?? code, errors).toBe(killAt > steps ? 0 : "SIGKILL");
  return last;
}

interface Logged {
  readonly event: string;
  readonly step?: number;
}

/** log.jsonl without what hangs on the clock and the place. */
async function logOf(out: string): Promise<readonly Logged[]> {
  const lines = (await readFile(join(out, "log.jsonl"), "utf8")).trimEnd().split("\n");
  const timing = { seconds: 0, examples_per_second: 0, tokens_per_second: 0, peak_rss_bytes: 0, checkpoint: "", adapter: "" };
  return lines.map((line) => ({ ...(JSON.parse(line) as Logged), ...timing }));
}

it("a training killed at random steps, and resumed each time, is the one that was not", { timeout: 60_000 }, async () => {
  const [whole, broken] = [join(folder, "whole"), join(folder, "broken")];
  const unbroken = trainUntil(whole, steps + 1);
  const kills: number[] = [];
  for (const at of [10, 35, 60]) {
    const killAt = at + Math.floor(Math.random() * 20);
    const resume = kills.length === 0 ? [] : ["--resume"];
    kills.push(await trainUntil(broken, killAt, ...resume));
    expect(await readdir(broken)).not.toContain("adapter_model.safetensors");
  }
  await trainUntil(broken, steps + 1, "--resume");
  await unbroken;

  const [expected, log] = [await logOf(whole), await logOf(broken)];
  const killed = `killed at ${kills}`;
  const stepsIn = (events: readonly Logged[]): readonly Logged[] => events.filter(({ event }) => event === "step");
  expect(stepsIn(expected).map(({ step }) => step)).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
  expect(stepsIn(log), killed).toEqual(stepsIn(expected));
  const others = (events: readonly Logged[]): readonly Logged[] => events.filter(({ event }) => event !== "step" && event !== "checkpoint");
  expect(others(log), killed).toEqual(others(expected));
  for (const name of ["adapter_config.json", "adapter_model.safetensors"])
    expect(Buffer.compare(await readFile(join(broken, name)), await readFile(join(whole, name))), `${name}, ${killed}`).toBe(0);
});
