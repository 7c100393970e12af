/** How time and memory grow: with training rows, text length, rank and loaded adapters, each at 1×, 4× and 16×, and with steps. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeRows } from "./bert-base.js";
import { run, runOurs } from "./programs.js";
import { markdown, median, spread } from "./report.js";

const factors = [1, 4, 16];
/** Each quantity at 1×. */
const base = { rows: 250, length: 8, rank: 8, adapters: 1 };
/** Optimiser steps of a training whose speed is what counts, rows of a batch, and rows that a training without a peer is judged on. */
const [steps, batch, judged] = [12, 32, 32];

/**
 * @typedef {object} Point
 * @property {string} quantity
 * @property {number} times of the quantity's base value
 * @property {number} value of the quantity
 * @property {string} unit of the time
 * @property {readonly number[]} times_taken in that unit, one a round
 * @property {readonly number[]} peak_rss_bytes one a round
 *
 * @typedef {{ step: number, rss_bytes: number }} Sample
 */

/**
 * @param {{ model: string, data: string, only: RegExp, rounds: number, steps: number, threads: number, seed: number }} options
 * @returns {Promise<{ points: readonly Point[], samples: readonly Sample[] }>}
 */
export async function scaling(options) {
  const folder = await mkdtemp(join(tmpdir(), "peft-scaling-"));
  try {
    const measured = Object.entries(await measures(folder, options)).filter(([quantity]) => options.only.test(quantity));
    const points = measured.flatMap(([quantity, { unit, each }]) =>
      factors.map((times) => ({
        ...{ quantity, times, value: base[/** @type {keyof typeof base} */ (quantity)] * times, unit, each },
        ...{ times_taken: /** @type {number[]} */ ([]), peak_rss_bytes: /** @type {number[]} */ ([]) },
      })),
    );
    for (let round = 0; round < options.rounds; round++)
      for (const point of points) {
        const { time, bytes } = await point.each(point.value, options.seed + round);
        point.times_taken.push(time);
        point.peak_rss_bytes.push(bytes);
        console.error(`round ${round + 1}  ${point.quantity} ${point.value}  ${time.toFixed(2)} ${point.unit}, ${mebibytes(bytes)} MiB`);
      }
    const samples = options.only.test("steps") ? await memoryOverSteps(folder, options) : [];
    return { points: points.map(({ each: _, ...point }) => point), samples };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @typedef {{ unit: string, each: (value: number, seed: number) => Promise<{ time: number, bytes: number }> }} Measure */

/**
 * What is measured for each quantity.
 * @param {string} folder
 * @param {{ model: string, data: string, threads: number }} options
 * @returns {Promise<Record<keyof typeof base, Measure>>}
 */
async function measures(folder, { model, data, threads }) {
  const lines = (await readFile(join(data, "banking77", "train.jsonl"), "utf8")).trimEnd().split("\n");
  const tokens = Object.keys(JSON.parse(await readFile(join(model, "tokenizer.json"), "utf8")).model.vocab);
  const few = join(folder, "few");
  await writeLines(few, lines);
  const setting = { model, batch, threads, maxLength: 128, epochs: 0 };
  const peft = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
  const oneStep = [
    "--model",
    model,
    "--data",
    join(few, "train.jsonl"),
    "--eval",
    join(few, "test.jsonl"),
    "--out",
    join(folder, "one"),
    "--max-steps",
    "1",
  ];
  /** @type {Promise<number> | undefined} */
  let trained;
  const lora = (/** @type {number} */ r) => ["--method", "lora", "--set", `r=${r},lora_alpha=16,target_modules=query,value`];
  return {
    rows: {
      unit: "s for an epoch, whole process",
      each: async (value, seed) => {
        await writeLines(join(folder, "rows"), lines.slice(0, value));
        const told = await runOurs({ ...setting, data: join(folder, "rows"), seed, steps: 0, epochs: 1 }, lora(8));
        return { time: told.wall_seconds, bytes: told.peak_rss_bytes };
      },
    },
    length: {
      unit: "ms a step",
      each: async (value, seed) => {
        await writeRows(join(folder, "length"), tokens, batch * 4, value);
        const told = await runOurs({ ...setting, data: join(folder, "length"), seed, steps, maxLength: value }, lora(8));
        return { time: (1000 * batch) / told.rows_per_second, bytes: told.peak_rss_bytes };
      },
    },
    rank: {
      unit: "ms a step",
      each: async (value, seed) => {
        const told = await runOurs({ ...setting, data: few, seed, steps: 2 * steps }, lora(value));
        return { time: (1000 * batch) / told.rows_per_second, bytes: told.peak_rss_bytes };
      },
    },
    adapters: {
      unit: "ms to load all and predict a text with each",
      each: async (value) => {
        trained ??= run(process.execPath, [peft, "train", ...oneStep], {}, () => {}); // elsewhere, so that its memory does not count
        await trained;
        const [told] = await child("adapters", model, data, folder, `${threads}`, `${value}`);
        return { time: told.milliseconds, bytes: told.rss_bytes };
      },
    },
  };
}

/**
 * @param {string} folder
 * @param {readonly string[]} lines
 */
async function writeLines(folder, lines) {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "train.jsonl"), `${lines.join("\n")}\n`);
  await writeFile(join(folder, "test.jsonl"), `${lines.slice(0, judged).join("\n")}\n`);
}

/**
 * @param {string} folder
 * @param {{ model: string, data: string, steps: number, threads: number }} options
 * @returns {Promise<readonly Sample[]>}
 */
async function memoryOverSteps(folder, { model, data, steps: count, threads }) {
  return child("steps", model, data, folder, `${threads}`, `${count}`);
}

/**
 * Runs scaling-child.js: what is measured from within a process of its own.
 * @param {readonly string[]} parts
 * @returns {Promise<any[]>} what it printed, an object a line
 */
async function child(...parts) {
  /** @type {any[]} */
  const told = [];
  await run(process.execPath, [fileURLToPath(new URL("scaling-child.js", import.meta.url)), ...parts], {}, (line) => {
    told.push(JSON.parse(line));
    if (told.at(-1).step !== undefined) console.error(`step ${told.at(-1).step}  ${mebibytes(told.at(-1).rss_bytes)} MiB`);
  });
  return told;
}

const mebibytes = (/** @type {number} */ bytes) => (bytes / 2 ** 20).toFixed(0);

/**
 * The time of the fastest round: whatever else runs on the machine only adds to it.
 * @param {Point} point
 */
export const fastest = ({ times_taken }) => Math.min(...times_taken);

/**
 * Peak memory in the middle of the rounds.
 * @param {Point} point
 */
export const peak = ({ peak_rss_bytes }) => median(peak_rss_bytes);

/**
 * Multiples are those of the fastest rounds.
 * @param {readonly Point[]} points
 * @param {readonly Sample[]} samples
 */
export function scalingTables(points, samples) {
  const first = (/** @type {Point} */ { quantity }) => points.find((each) => each.quantity === quantity);
  /** @type {(point: Point, of: (point: Point) => number) => string} */
  const multiple = (point, of) => (of(point) / of(first(point) ?? point)).toFixed(2);
  const rows = points.map((point) => [
    ...[
      point.quantity,
      `${point.value} (${point.times}×)`,
      `${spread(point.times_taken, point.unit.startsWith("s ") ? 1 : 0)} ${point.unit}`,
    ],
    ...[
      multiple(point, fastest),
      spread(
        point.peak_rss_bytes.map((each) => each / 2 ** 20),
        0,
      ),
    ],
    multiple(point, peak),
  ]);
  const grown = markdown(["quantity", "value", "time (lowest–highest)", "× time", "peak memory, MiB", "× memory"], rows);
  if (samples.length === 0) return grown;
  const over = markdown(
    ["after steps", ...samples.filter(({ step }) => step % 500 === 0 || step === samples[0]?.step).map(({ step }) => `${step}`)],
    [
      [
        "resident, MiB",
        ...samples.filter(({ step }) => step % 500 === 0 || step === samples[0]?.step).map(({ rss_bytes }) => mebibytes(rss_bytes)),
      ],
    ],
  );
  return points.length === 0 ? over : `${grown}\n\n${over}`;
}
