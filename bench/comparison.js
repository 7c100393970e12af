// @ts-check
/** The comparisons behind docs/comparison.md: `peft compare` on each data set, then the tables of all reports. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { built } from "./built.js";
import { comparisonTables } from "./comparison-tables.js";

const usage = `node bench/comparison.js --data FOLDER --out FOLDER [options]      (after npm run build)

  --data FOLDER             holds a folder a data set, each with train.jsonl and test.jsonl
  --out FOLDER              reports, one folder a set; interrupted, the same command goes on
  --only a,b                sets to run; all by default
  --model NAME              the encoder (minilm)
  --language-model NAME     the decoder for wikisql_mini; left out without it
  --seeds N                 seeds of each method (2); raised later, the others are run too
  --eval-rows N             test rows that are judged, drawn once with seed 0 (500)
  --threads N               threads of a run (all cores)
  --budget TIME             time that a set may take in one call (30m)
  --tables FILE             also writes the tables of all reports in OUT below the line "${"<!-- tables -->"}" of FILE`;

const encoders = "lora,seq_bn,prefix,prompt,p-tuning,bitfit,ia3,head,full";
const all = ["--methods", encoders, "--min-steps", "40", "--max-length", "128"];
const short = [...all, "--train-sizes", "100,500"];
const long = [
  "--methods",
  "lora,ia3,prefix",
  "--train-sizes",
  "200",
  "--min-steps",
  "20",
  "--search-rows",
  "64",
  "--batch-size",
  "8",
  "--max-length",
  "256",
];
/** @type {Readonly<Record<string, readonly string[]>>} */
const sets = {
  banking77: short,
  sst2: short,
  trec: short,
  wnut17: [...short, "--map", "tags=ner_tags"],
  stsb: short,
  pubmedqa: [...all, "--train-sizes", "all", "--batch-size", "16"], // 452 rows, pairs of which most are cut off at 128 tokens
  "nusax_sentiment/english": short,
  "nusax_sentiment/javanese": short,
  wikisql_mini: long,
};

const { values } = parseArgs({
  options: {
    data: { type: "string" },
    out: { type: "string" },
    only: { type: "string" },
    model: { type: "string", default: "minilm" },
    "language-model": { type: "string" },
    seeds: { type: "string", default: "2" },
    "eval-rows": { type: "string", default: "500" },
    threads: { type: "string" },
    budget: { type: "string", default: "30m" },
    tables: { type: "string" },
  },
});
const { data, out } = values;
if (data === undefined || out === undefined) {
  console.error(usage);
  process.exit(2);
}

const { holdOut } = /** @type {typeof import("../src/data/split.js")} */ (await built("data/split.js"));
const peft = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const chosen = values.only?.split(",") ?? Object.keys(sets);
for (const name of chosen) {
  const flags = sets[name];
  if (flags === undefined) throw new Error(`${name} is none of ${Object.keys(sets).join(", ")}`);
  const model = flags === long ? values["language-model"] : values.model;
  if (model === undefined) continue;
  const folder = join(out, folderOf(name));
  const judged = join(out, `${folderOf(name)}-test.jsonl`);
  mkdirSync(out, { recursive: true });
  if (!existsSync(judged)) writeFileSync(judged, someRows(join(data, name, "test.jsonl"), Number(values["eval-rows"])));
  const args = [
    ...["compare", "--model", model, "--data", join(data, name, "train.jsonl"), "--eval", judged, "--out", folder],
    ...["--seeds", values.seeds, "--budget", values.budget, ...(values.threads === undefined ? [] : ["--threads", values.threads])],
    ...flags,
  ];
  console.log(`peft ${args.join(" ")}`);
  const { status } = spawnSync(process.execPath, [peft, ...args], { stdio: "inherit" });
  if (status !== 0) throw new Error(`${name}: peft compare ended with ${status}`);
}
if (values.tables !== undefined) {
  const mark = "<!-- tables -->";
  const reports = Object.keys(sets).flatMap((name) => {
    const file = join(out, folderOf(name), "report.json");
    return existsSync(file) ? [{ name, report: JSON.parse(readFileSync(file, "utf8")) }] : [];
  });
  const [prose] = readFileSync(values.tables, "utf8").split(mark);
  writeFileSync(values.tables, `${prose}${mark}\n\n${comparisonTables(reports)}`);
}

/** @param {string} name */
function folderOf(name) {
  return name.replace("/", "-");
}

/**
 * As many lines of a file, drawn with seed 0, in the file's order.
 * @param {string} file
 * @param {number} count
 */
function someRows(file, count) {
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  const kept = lines.length <= count ? lines : Array.from(holdOut(lines.length, count / lines.length, 0).held, (i) => lines[i]);
  return `${kept.join("\n")}\n`;
}
