import { createHash } from "node:crypto";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import type { Contestant } from "../compare/cell.js";
import { type CompareEvent, experiment } from "../compare/experiment.js";
import { groupsOf } from "../compare/fairness.js";
import { dropOrder, secondsIn } from "../compare/plan.js";
import { type Comparison, markdownReport } from "../compare/report.js";
import { summarize } from "../compare/summary.js";
import { parseOptions } from "../core/options.js";
import { readRows } from "../data/read-rows.js";
import { type RowTable, someRows } from "../data/rows.js";
import { holdOut } from "../data/split.js";
import { ConfigError, DataError } from "../errors.js";
import { methodChoice } from "../methods/index.js";
import { headToTrain } from "../programs/adapter.js";
import { taskNamed } from "../tasks/index.js";
import { trainingOptions } from "../train/options.js";
import { version } from "../version.js";
import { type CompareOptions, compareOptions } from "./compare-options.js";
import { writableFolder, writeFolder } from "./folder.js";
import { type LoadedModel, type LoadOptions, loadModel } from "./load-model.js";
import { machineMeters } from "./meters.js";
import { resultFolder } from "./result-store.js";
import { taskOfRows } from "./train.js";
import { weightsSha256 } from "./weights-hash.js";

/** Share of the rows held out where none are given to judge on. */
const heldOutShare = 0.2;

/** A comparison that has come to its end. */
export interface Compared {
  readonly comparison: Comparison;
  /** The report's files. */
  readonly html: string;
  readonly markdown: string;
  readonly json: string;
  /** False where it was interrupted: called again it goes on. */
  readonly finished: boolean;
}

/**
 * Compares methods on the caller's rows and writes report.html, report.md and report.json to `out`. What `out` has of the same comparison is not
 * done again. Yields events as they happen. Throws as `train` does, and CheckpointError for a folder with another comparison.
 */
export async function* compare({
  model: given,
  onProgress,
  signal = new AbortController().signal,
  ...rest
}: Omit<CompareOptions, "model"> & { readonly model?: string | LoadedModel | undefined } & Pick<
    LoadOptions,
    "onProgress" | "signal"
  >): AsyncGenerator<CompareEvent, Compared> {
  const job = parseOptions("option", compareOptions, { ...rest, ...(typeof given === "string" ? { model: given } : {}) });
  const contestants = contestantsOf(typeof job.methods === "string" ? job.methods.split(",") : job.methods);
  const budget =
    job.budget === null ? null : (secondsIn(job.budget) ?? fail(`budget: "${job.budget}" is no time`, "such as 30m, 90s or 1h30m"));
  const all = await readRows(job.data, { map: job.map });
  const task = job.task === null ? taskOfRows(all) : taskNamed(job.task);
  const given_eval = job.eval === null ? undefined : await readRows(job.eval, { map: job.map });
  const dropIfEmpty = await writableFolder(job.out);
  let opened: LoadedModel | undefined;
  try {
    if (typeof given !== "object") opened = await loadModel(job.model, { threads: job.threads ?? undefined, onProgress, signal });
    const model = typeof given === "object" ? given : opened!;
    const head = headToTrain(model, task, all);
    const labels = task.onePerText && head.target.kind === "classes" ? all.rows.map(({ label }) => String(label)) : undefined;
    const split = given_eval === undefined ? holdOut(all.rows.length, heldOutShare, 0, labels) : undefined;
    const rows = split === undefined ? all : someRows(all, split.train);
    const evalRows = given_eval ?? someRows(all, split!.held);
    if (evalRows.rows.length === 0) {
      throw new DataError(`${all.origin}: ${all.rows.length} rows are too few to hold any out to judge on`, { hint: "give --eval" });
    }
    const sizes = sizesOf(job.train_sizes, rows.rows.length);
    const groups = job.group === null ? undefined : { column: job.group, values: groupsOf(evalRows, job.group) };
    const training = trainingOptions.parse({
      epochs: job.epochs,
      min_steps: job.min_steps,
      max_steps: job.max_steps,
      batch_size: job.batch_size,
      max_length: job.max_length,
    });
    const identity = {
      model: model.id,
      model_sha256: await weightsSha256(model.files),
      task: task.name,
      rows_sha256: hashOf(rows),
      eval_rows_sha256: hashOf(evalRows),
      group: job.group,
      ...Object.fromEntries(Object.entries(training).map(([name, value]) => [`training.${name}`, value])),
      search_rows: job.search_rows,
      resamples: job.resamples,
      watts_per_core: job.watts_per_core,
      grid_factor: job.grid_factor,
      threads: job.threads,
    };
    const store = await resultFolder(job.out, identity);
    const result = yield* experiment({
      model,
      head,
      rows,
      evalRows,
      groups,
      training,
      resamples: job.resamples,
      meters: machineMeters({ watts_per_core: job.watts_per_core, grid_factor: job.grid_factor }),
      contestants,
      seeds: Array.from({ length: job.seeds }, (_, seed) => seed),
      sizes,
      searchRows: job.search_rows,
      budget,
      store,
      signal,
    });
    if (result.cells.length === 0 && result.refused.length > 0) {
      throw new ConfigError(`no method could be compared: ${result.refused.map((each) => `${each.method}: ${each.message}`).join("; ")}`);
    }
    const comparison: Comparison = {
      findings: summarize(result, task, head.target, evalRows),
      cells: result.cells.map(({ replicates: _, outcomes: __, answers: ___, truth: ____, ...cell }) => cell),
      setup: {
        ...identity,
        model_source: model.id,
        revision: model.revision,
        data: job.data,
        eval: job.eval,
        map: job.map,
        train_rows: rows.rows.length,
        eval_rows: evalRows.rows.length,
        eval_source: given_eval === undefined ? "held out" : "given",
        methods: contestants.map(({ name, config }) => ({ name, config })),
        seeds: job.seeds,
        train_sizes: sizes,
        budget: job.budget,
        drop_order: dropOrder,
        versions: { "peft.js": version, node: process.versions.node },
        machine: { processor: cpus()[0]?.model.trim() ?? "unknown", cores: cpus().length, memory_bytes: totalmem() },
        made: new Date().toISOString().slice(0, 10),
      },
    };
    const { htmlReport } = await import("../compare/report-html.js"); // what draws plots takes a quarter of a second to load
    await writeFolder(job.out, {
      "report.json": `${JSON.stringify(comparison, null, 1)}\n`,
      "report.md": markdownReport(comparison),
      "report.html": htmlReport(comparison),
    });
    const file = (name: string): string => join(job.out, name);
    return {
      comparison,
      html: file("report.html"),
      markdown: file("report.md"),
      json: file("report.json"),
      finished: !result.interrupted,
    };
  } finally {
    await opened?.close();
    await dropIfEmpty();
  }
}

/** The methods by the names given, defaults filled in. Throws ConfigError that lists the methods there are. */
function contestantsOf(names: readonly string[]): readonly Contestant[] {
  const wanted = names.map((name) => name.trim()).filter((name) => name !== "");
  if (wanted.length === 0) fail("methods: none are named", "for example lora,seq_bn,ia3");
  return [...new Set(wanted)].map((name) => {
    const { method, preset } = methodChoice(name);
    return { name, method, config: parseOptions(`${method.name} option`, method.config, preset) };
  });
}

/** Training sizes as numbers of rows; larger ones than there are rows are all of them. Throws ConfigError. */
function sizesOf(sizes: string | number | readonly (string | number)[], rows: number): readonly number[] {
  const parts = [sizes].flat().flatMap((part) => String(part).split(","));
  return [
    ...new Set(
      parts.map((part) => {
        const size = part.trim() === "all" ? rows : Number(part);
        if (!Number.isInteger(size) || size < 1) fail(`train_sizes: "${part}" is no number of rows`, "for example 50,200,1000,all");
        return Math.min(size, rows);
      }),
    ),
  ].sort((a, b) => a - b);
}

function fail(message: string, hint: string): never {
  throw new ConfigError(message, { hint });
}

/** The sha256 of rows as JSON, a line each. */
function hashOf({ rows }: RowTable): string {
  const hash = createHash("sha256");
  for (const row of rows) hash.update(`${JSON.stringify(row, (_, value) => (typeof value === "bigint" ? String(value) : value))}\n`);
  return hash.digest("hex");
}
