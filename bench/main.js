/** `npm run bench`: this program and Python's, in turns, in one run; and what this program's own time and memory depend on. See docs/performance.md. */
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writeBertBase } from "./bert-base.js";
import { cases } from "./cases.js";
import { inference, inferenceTable } from "./inference.js";
import { growthPlot, memoryPlot, ratioPlot } from "./plots.js";
import { profile } from "./profile.js";
import { profileTables, table } from "./report.js";
import { writeResults } from "./results.js";
import { compareAll } from "./rounds.js";
import { fastest, peak, scaling, scalingTables } from "./scaling.js";

const usage = `npm run bench -- --model FOLDER --decoder FOLDER --data FOLDER [options]

  --model FOLDER            base model: an encoder
  --decoder FOLDER|GGUF     a language model; without it the cases of language models are left out, without --model all others
  --data FOLDER             holds a folder a data set, each with train.jsonl and test.jsonl
  --only REGEX              cases to run, by name; ${cases.length} in all, such as ${cases[0]?.name}; with --scaling of
                            rows, length, rank, adapters, steps; with --inference of sst2, banking77
  --python FILE             interpreter with transformers and peft; without it only this program runs
  --adapters-python FILE    interpreter with transformers and adapters
  --rounds N                times that each case is run on both sides (5; 3 for --scaling and --inference)
  --steps N                 optimiser steps of a run that is only timed (40, of language models 8, of BERT-base 10; 2000 for the last part of --scaling)
  --quick                   2 rounds of 12 steps
  --epochs N                whole epochs and a score on the test rows instead
  --batch N  --max-length N (32 and 128, of language models 8 and 256, of BERT-base 8 and 128)
  --threads N  --seed N     (all cores, 0)
  --out FILE                results as JSON, figures beside it (bench/results/DATE.json)
  --list                    names the cases

in place of comparing cases:
  --profile                 where a step's time goes in each case: phases, ops, matrix products
  --scaling                 time and memory against training rows, text length, rank, loaded adapters, steps; needs --model and banking77
  --inference               predict and evaluate against transformers; needs --model, sst2 and banking77`;

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    decoder: { type: "string" },
    data: { type: "string" },
    only: { type: "string", default: "" },
    python: { type: "string" },
    "adapters-python": { type: "string" },
    rounds: { type: "string" },
    steps: { type: "string" },
    quick: { type: "boolean", default: false },
    epochs: { type: "string" },
    batch: { type: "string" },
    "max-length": { type: "string" },
    threads: { type: "string", default: `${cpus().length}` },
    seed: { type: "string", default: "0" },
    out: { type: "string" },
    list: { type: "boolean", default: false },
    profile: { type: "boolean", default: false },
    scaling: { type: "boolean", default: false },
    inference: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});

const only = new RegExp(values.only);
const named = cases.filter(({ name }) => only.test(name));
const models = { encoder: values.model, decoder: values.decoder, "bert-base": values.model };
const possible = named.filter(({ kind }) => models[kind] !== undefined);
const whole = values.scaling || values.inference;
const started = new Date().toISOString();
const number = (/** @type {string | undefined} */ text) => (text === undefined ? undefined : Number(text));
const given = {
  threads: Number(values.threads),
  seed: Number(values.seed),
  rounds: number(values.rounds),
  steps: number(values.steps),
  batch: number(values.batch),
  maxLength: number(values["max-length"]),
};

if (values.list) {
  console.log(named.map(({ name }) => name).join("\n"));
} else if (values.help || values.data === undefined || (whole ? values.model === undefined : possible.length === 0)) {
  console.log(usage);
  process.exitCode = values.help ? 0 : 2;
} else if (values.scaling) await runScaling(`${values.model}`, values.data);
else if (values.inference) await runInference(`${values.model}`, values.data);
else await runCases(values.data);

/**
 * @param {string} model
 * @param {string} data
 */
async function runScaling(model, data) {
  const { rounds = 3, steps = 2000, threads, seed } = given;
  const { points, samples } = await scaling({ ...{ model, data, only, threads, seed }, rounds: values.quick ? 1 : rounds, steps });
  const grown = (/** @type {(point: import("./scaling.js").Point) => number} */ of) =>
    points.map((point) => ({ quantity: point.quantity, times: point.times, value: of(point) }));
  await save("scaling", { points, samples }, [
    ...(points.length === 0 ? [] : [growthPlot("time", "Time", grown(fastest)), growthPlot("peak-memory", "Peak memory", grown(peak))]),
    ...(samples.length === 0 ? [] : [memoryPlot(samples)]),
  ]);
  console.log(scalingTables(points, samples));
}

/**
 * @param {string} model
 * @param {string} data
 */
async function runInference(model, data) {
  const { rounds = 3, batch = 32, maxLength = 128, threads, seed } = given;
  const found = await inference({
    ...{ model, data, only, python: values.python, batch, maxLength, threads, seed },
    rounds: values.quick ? 1 : rounds,
  });
  await save("inference", { results: found });
  console.log(inferenceTable(found));
}

/**
 * The cases, compared or profiled.
 * @param {string} data
 */
async function runCases(data) {
  const own = await mkdtemp(join(tmpdir(), "peft-bench-"));
  try {
    if (possible.some(({ kind }) => kind === "bert-base")) await writeBertBase(own, `${values.model}`);
    const quick = values.quick ? { rounds: 2, steps: 12 } : { rounds: 5 };
    const { rounds = quick.rounds, steps = quick.steps, batch, maxLength, threads, seed } = given;
    const sizes = Object.fromEntries(Object.entries({ batch, maxLength, steps }).filter(([, value]) => value !== undefined));
    const chosen = possible.map((each) => ({
      ...{ ...each, sizes: { ...each.sizes, ...sizes } },
      ...(each.kind === "bert-base"
        ? { model: join(own, "model"), data: join(own, "rows") }
        : { model: `${models[each.kind]}`, data: join(data, each.data) }),
    }));
    if (values.profile) {
      const profiles = [];
      for (const each of chosen) profiles.push(await profile(each, { threads, seed }));
      await save("profile", { profiles });
      console.log(profiles.map(profileTables).join("\n\n"));
      return;
    }
    const pythons = { peft: values.python, adapters: values["adapters-python"] };
    const results = await compareAll(chosen, { rounds, epochs: number(values.epochs), threads, seed, pythons });
    await save("", { results }, ratioPlot(results));
    console.log(table(results));
  } finally {
    await rm(own, { recursive: true, force: true });
  }
}

/**
 * @param {string} mode
 * @param {object} found
 * @param {readonly import("./plots.js").Figure[]} [figures]
 */
async function save(mode, found, figures) {
  const { data: _, model: __, decoder: ___, python: ____, "adapters-python": _____, out, ...options } = values;
  const file = out ?? join("bench", "results", `${[started.slice(0, 10), ...(mode === "" ? [] : [mode])].join("-")}.json`);
  await writeResults(file, { started, options, ...found }, figures);
}
