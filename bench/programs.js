/** The two programs, run as whole processes and measured by one definition of speed: from the end of one optimiser step to the end of the next. */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { performance } from "node:perf_hooks";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Optimiser steps that are left out: sessions, caches and pages warm up in them. */
const warmUp = 2;
/** Rows that our side evaluates after a run that is only timed; the peer evaluates none. */
const evaluated = 32;
const mebibyte = 2 ** 20;

/**
 * @typedef {object} Measured
 * @property {number} rows_per_second over all steps but the first two
 * @property {number} tokens_per_second real tokens, padding not counted
 * @property {number} first_step_seconds from the start of the process to the end of the first optimiser step
 * @property {number} peak_rss_bytes of the whole process
 * @property {number} import_rss_bytes of a process that has loaded its libraries, and no more
 * @property {number} wall_seconds of the whole process
 * @property {number} final_loss mean of the last ten steps' losses, nats
 * @property {number | null} score on the test rows; null for a run that is only timed
 */

/**
 * @typedef {object} Setting
 * @property {string} model folder of the base model, or a .gguf file
 * @property {string} data folder with train.jsonl and test.jsonl
 * @property {number} steps optimiser steps of a run that is only timed; 0 for whole epochs and a score
 * @property {number} epochs
 * @property {number} batch rows in a batch
 * @property {number} maxLength longest text in tokens
 * @property {number} threads
 * @property {number} seed
 */

/**
 * One run of `peft train`.
 * @param {Setting} setting
 * @param {readonly string[]} flags
 * @returns {Promise<Measured>}
 */
export async function runOurs(setting, flags) {
  const folder = await mkdtemp(join(tmpdir(), "peft-bench-"));
  /** @type {{ at: number; event: any }[]} */
  const events = [];
  try {
    const train = join(setting.data, "train.jsonl");
    const few = join(folder, "few.jsonl");
    await writeFile(few, (await readFile(train, "utf8")).split("\n", evaluated).join("\n"));
    const seconds = await run(
      process.execPath,
      [
        fileURLToPath(new URL("../dist/cli/main.js", import.meta.url)),
        ...["train", "--json", "--out", join(folder, "adapter"), "--model", setting.model, "--data", train],
        ...(setting.steps > 0
          ? ["--eval", few, "--max-steps", `${setting.steps}`]
          : ["--eval", join(setting.data, "test.jsonl"), "--epochs", `${setting.epochs}`]),
        ...["--batch-size", `${setting.batch}`, "--max-length", `${setting.maxLength}`],
        ...["--threads", `${setting.threads}`, "--seed", `${setting.seed}`],
        ...flags,
      ],
      {},
      (line, at) => events.push({ at, event: JSON.parse(line) }),
    );
    const steps = events.filter(({ event }) => event.event === "step");
    const end = events.find(({ event }) => event.event === "end")?.event;
    if (end === undefined) throw new Error(`peft train ended without a result after ${steps.length} steps`);
    const timed = steps
      .map(({ event }, i) => ({ ...event, took: event.seconds - (steps[i - 1]?.event.seconds ?? 0) }))
      .slice(warmUp)
      .filter(({ step }) => !evaluatedBefore(events, step));
    const took = sum(timed, (step) => step.took);
    return {
      rows_per_second: sum(timed, (step) => step.examples_per_second * step.took) / took,
      tokens_per_second: sum(timed, (step) => step.tokens_per_second * step.took) / took,
      first_step_seconds: steps[0]?.at ?? Number.NaN,
      peak_rss_bytes: end.peak_rss_bytes,
      import_rss_bytes: await importedBytes(),
      wall_seconds: seconds,
      final_loss: sum(steps.slice(-10), ({ event }) => event.loss) / Math.min(10, steps.length),
      score: setting.steps > 0 ? null : (Object.values(end.metrics)[0] ?? null),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * One run of hf_peft.py.
 * @param {Setting} setting
 * @param {readonly string[]} flags
 * @param {string} python the interpreter of an environment that has the method's library
 * @returns {Promise<Measured>}
 */
export async function runPeer(setting, flags, python) {
  let last = "";
  const seconds = await run(
    python,
    [
      fileURLToPath(new URL("hf_peft.py", import.meta.url)),
      ...namedModel(setting.model),
      ...["--train", join(setting.data, "train.jsonl"), "--test", join(setting.data, "test.jsonl")],
      ...(setting.steps > 0 ? ["--steps", `${setting.steps}`] : ["--epochs", `${setting.epochs}`]),
      ...["--batch", `${setting.batch}`, "--max-length", `${setting.maxLength}`],
      ...["--threads", `${setting.threads}`, "--seed", `${setting.seed}`],
      ...flags,
    ],
    { OMP_NUM_THREADS: `${setting.threads}` },
    (line) => {
      last = line;
    },
  );
  const told = JSON.parse(last);
  return {
    rows_per_second: told.examples_per_s,
    tokens_per_second: told.tokens_per_s,
    first_step_seconds: told.first_step_s,
    peak_rss_bytes: told.peak_rss_mib * mebibyte,
    import_rss_bytes: told.import_rss_mib * mebibyte,
    wall_seconds: seconds,
    final_loss: told.last_loss,
    score: told.test_accuracy ?? told.test_entity_f1 ?? told.test_pearson ?? null,
  };
}

/**
 * How the peer's programs name a model: a folder, and where it is a GGUF file, the file in it.
 * @param {string} model
 */
export function namedModel(model) {
  return model.endsWith(".gguf") ? ["--model", dirname(model), "--gguf", basename(model)] : ["--model", model];
}

/** Resident memory of a process that has loaded this program with ONNX Runtime, and done nothing with them; the peer tells its own. */
async function importedBytes() {
  const library = new URL("../dist/node/index.js", import.meta.url).href;
  const script = `await import(${JSON.stringify(library)}); await import("onnxruntime-node"); console.log(process.resourceUsage().maxRSS * 1024)`;
  let bytes = Number.NaN;
  await run(process.execPath, ["--input-type=module", "--eval", script], {}, (line) => {
    bytes = Number(line);
  });
  return bytes;
}

/**
 * Runs a program to its end and hands on each line of its standard output with the seconds since its start. Throws with its last words.
 * @param {string} file
 * @param {readonly string[]} parts
 * @param {Record<string, string>} environment added to this process's
 * @param {(line: string, at: number) => void} onLine
 * @returns {Promise<number>} seconds from start to end
 */
export async function run(file, parts, environment, onLine) {
  const start = performance.now();
  const child = spawn(file, parts, { env: { ...process.env, ...environment }, stdio: ["ignore", "pipe", "pipe"] });
  let words = "";
  child.stderr.on("data", (data) => {
    words = (words + data).slice(-2000);
  });
  createInterface({ input: child.stdout }).on("line", (line) => onLine(line, (performance.now() - start) / 1000));
  const code = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  if (code !== 0) throw new Error(`${file} exited with ${code}\n${words}`);
  return (performance.now() - start) / 1000;
}

/**
 * Whether an evaluation or a checkpoint lies between a step and the one before it.
 * @param {readonly { event: any }[]} events
 * @param {number} step
 */
function evaluatedBefore(events, step) {
  return events.some(({ event }) => event.event === "eval" && event.step === step - 1);
}

/**
 * @template T
 * @param {readonly T[]} all
 * @param {(each: T) => number} of
 */
function sum(all, of) {
  return all.reduce((total, each) => total + of(each), 0);
}
