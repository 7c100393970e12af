/** `npm run bench`: this program and Python's, in turns, in one run. See docs/performance.md. */
import { mkdir, writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cases } from "./cases.js";
import { runOurs, runPeer } from "./programs.js";
import { table } from "./report.js";

const usage = `npm run bench -- --model FOLDER --decoder FOLDER --data FOLDER [options]

  --model FOLDER            base model: an encoder
  --decoder FOLDER          a language model; without it the cases of language models are left out, without --model all others
  --data FOLDER             holds a folder a data set, each with train.jsonl and test.jsonl
  --only REGEX              cases to run, by name; ${cases.length} in all, such as ${cases[0]?.name}
  --python FILE             interpreter with transformers and peft; without it only this program runs
  --adapters-python FILE    interpreter with transformers and adapters
  --rounds N                times that each case is run on both sides (5)
  --steps N                 optimiser steps of a run that is only timed (40)
  --epochs N                whole epochs and a score on the test rows instead
  --batch N  --max-length N  --threads N  --seed N   (32, 128, all cores, 0)
  --out FILE                results as JSON (bench/results/DATE.json)
  --list                    names the cases`;

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    decoder: { type: "string" },
    data: { type: "string" },
    only: { type: "string", default: "" },
    python: { type: "string" },
    "adapters-python": { type: "string" },
    rounds: { type: "string", default: "5" },
    steps: { type: "string", default: "40" },
    epochs: { type: "string" },
    batch: { type: "string", default: "32" },
    "max-length": { type: "string", default: "128" },
    threads: { type: "string", default: `${cpus().length}` },
    seed: { type: "string", default: "0" },
    out: { type: "string" },
    list: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});

const models = { encoder: values.model, decoder: values.decoder };
const named = cases.filter(({ name }) => new RegExp(values.only).test(name));
const chosen = named.flatMap((each) => {
  const model = models[each.kind];
  return model === undefined ? [] : [{ ...each, model }];
});
if (values.list) {
  console.log(named.map(({ name }) => name).join("\n"));
} else if (values.help || values.data === undefined || chosen.length === 0) {
  console.log(usage);
  process.exitCode = values.help ? 0 : 2;
} else {
  await bench(values.data);
}

/** @param {string} data */
async function bench(data) {
  const pythons = { peft: values.python, adapters: values["adapters-python"] };
  const results = chosen.map(({ name }) => ({
    name,
    ours: /** @type {import("./programs.js").Measured[]} */ ([]),
    peer: /** @type {import("./programs.js").Measured[]} */ ([]),
  }));
  const started = new Date().toISOString();
  const out = values.out ?? join("bench", "results", `${started.slice(0, 10)}.json`);
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [i, each] of chosen.entries()) {
      const setting = {
        model: each.model,
        data: join(data, each.data),
        steps: values.epochs === undefined ? Number(values.steps) : 0,
        epochs: Number(values.epochs ?? 0),
        batch: Number(values.batch),
        maxLength: Number(values["max-length"]),
        threads: Number(values.threads),
        seed: Number(values.seed) + round,
      };
      const result = /** @type {(typeof results)[number]} */ (results[i]);
      result.ours.push(await runOurs(setting, each.ours));
      const python = pythons[each.library];
      if (python !== undefined) result.peer.push(await runPeer(setting, each.peer, python));
      console.error(
        `round ${round + 1}  ${each.name}  ${[result.ours, result.peer].map((s) => s.at(-1)?.rows_per_second.toFixed(0) ?? "–").join(" / ")} rows/s`,
      );
    }
  }
  const machine = { processor: cpus()[0]?.model.trim(), cores: cpus().length, memory_bytes: totalmem(), node: process.version };
  const { data: _, model: __, decoder: ___, python: ____, "adapters-python": _____, out: ______, ...options } = values;
  await mkdir(join(out, ".."), { recursive: true });
  await writeFile(out, `${JSON.stringify({ started, machine, options, results }, null, 1)}\n`);
  console.log(table(results));
}
