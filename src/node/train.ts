import { join } from "node:path";
import { groupReport, groupsOf } from "../compare/fairness.js";
import { bootstrapMetrics } from "../compare/intervals.js";
import { parseOptions } from "../core/options.js";
import { readRows } from "../data/read-rows.js";
import type { RowTable } from "../data/rows.js";
import { ConfigError } from "../errors.js";
import { methodChoice } from "../methods/index.js";
import type { PeftMethod } from "../methods/method.js";
import type { Adapter } from "../programs/adapter.js";
import { adapterFiles } from "../programs/adapter-files.js";
import { nearestForm, showingForms } from "../tasks/columns.js";
import { labelledTasks, taskNamed } from "../tasks/index.js";
import type { Metrics, Task } from "../tasks/task.js";
import type { TrainEvent } from "../train/events.js";
import { trainingOptions } from "../train/options.js";
import { train as trainLoop } from "../train/trainer.js";
import { version } from "../version.js";
import { eventLog } from "./event-log.js";
import { checkpointFolders, checkpointsToResume, writableFolder, writeFolder } from "./folder.js";
import { adapterPlace, type LoadedModel, type LoadOptions, loadModel } from "./load-model.js";
import { energyMeter } from "./meters.js";
import { type TrainJobOptions, trainJobOptions } from "./train-options.js";
import { weightsSha256 } from "./weights-hash.js";

/** What `train` may be told. */
export type TrainOptions = Omit<TrainJobOptions, "model" | "method"> & {
  /** By name, or one that is loaded already, and stays open then. */
  readonly model?: string | LoadedModel | undefined;
  /** By name, or a method of the program's own. */
  readonly method?: string | PeftMethod | undefined;
  /** The program's own methods, to be named by `method` or by adapters that are held. */
  readonly methods?: readonly PeftMethod[] | undefined;
} & Pick<LoadOptions, "onProgress" | "signal">;

/** A finished or interrupted training. */
export interface TrainedAdapter {
  readonly adapter: Adapter;
  /** Folder with the adapter's files. */
  readonly path: string;
  readonly finished: boolean;
  readonly metrics: Metrics;
}

/**
 * Trains an adapter and writes it to `out`, with training.json, log.jsonl, a model card and checkpoints. Yields events as they happen.
 * Throws UsageError, ConfigError, DataError, FileError, ModelError, AttachError, WeightError, CheckpointError, NetworkError or NumericError.
 */
export async function* train({
  model: given,
  method: wanted,
  methods = [],
  onProgress,
  signal,
  ...rest
}: TrainOptions): AsyncGenerator<TrainEvent, TrainedAdapter> {
  const own = typeof wanted === "object" ? [wanted, ...methods] : methods;
  const job = parseOptions("option", trainJobOptions, {
    ...rest,
    ...(typeof given === "string" ? { model: given } : {}),
    ...(wanted === undefined ? {} : { method: typeof wanted === "object" ? wanted.name : wanted }),
  });
  const { method, preset } = methodChoice(job.method, own);
  const config = parseOptions(`${method.name} option`, method.config, { ...preset, ...job.set });
  const asked = job.task === null ? undefined : taskNamed(job.task);
  const dropIfEmpty = await writableFolder(job.out);
  let opened: LoadedModel | undefined;
  try {
    const rows = await readRows(job.data, { map: job.map });
    const evalRows = job.eval === null ? undefined : await readRows(job.eval, { map: job.map });
    const task = asked ?? taskOfRows(rows);
    if (job.group !== null && evalRows === undefined)
      throw new ConfigError("group parts the rows to evaluate on, and none are given", { hint: "name them with --eval" });
    const groups = job.group === null ? undefined : groupsOf(evalRows!, job.group);
    const store = job.resume === false ? checkpointFolders(job.out) : await checkpointsToResume(job.out, job.resume);
    if (typeof given !== "object") opened = await loadModel(job.model, { threads: job.threads ?? undefined, onProgress, signal });
    const model = typeof given === "object" ? given : opened!;
    let hash: Promise<string> | undefined;
    const sha256 = (): Promise<string> => {
      hash ??= weightsSha256(model.files);
      return hash;
    };
    const options = trainingOptions.parse(
      Object.fromEntries(Object.keys(trainingOptions.shape).map((key) => [key, job[key as keyof typeof job]])),
    );
    const energy = energyMeter();
    const log = eventLog(join(job.out, "log.jsonl"));
    const places = Object.entries(job.adapter);
    const held = await Promise.all(
      places.map(async ([name, place]) => ({ name, files: await adapterPlace(place, { onProgress, signal }) })),
    );
    const loop = trainLoop({
      model,
      task,
      method,
      config,
      held,
      methods: own,
      rows,
      evalRows,
      options,
      checkpoints: store,
      resume: job.resume !== false,
      signal,
      identity: async () => ({ base_sha256: await sha256() }),
      now: () => performance.now() / 1000,
      peakMemory: () => process.resourceUsage().maxRSS * 1024,
    });
    let start: (TrainEvent & { event: "start" }) | undefined;
    for (;;) {
      const { value, done } = await loop.next();
      if (done === true) return { adapter: value.adapter, path: job.out, finished: value.finished, metrics: value.metrics };
      if (value.event === "start") {
        start = value;
        await log.begin(value);
      }
      if (value.event !== "end") {
        if (value.event !== "start") await log.add(value);
        yield value;
        continue;
      }
      const end = { ...value, adapter: job.out };
      const result = await loop.next();
      if (result.done !== true) throw new Error("the loop went on after its end");
      const used = energy();
      const { evaluation, adapter } = result.value;
      const judged = evaluation === undefined ? undefined : { task, target: adapter.head.target, ...evaluation };
      const intervals = judged === undefined ? {} : bootstrapMetrics(judged).estimates;
      const grouped = groups === undefined || judged?.examples.length !== groups.length ? null : groupReport(judged, job.group!, groups);
      const record = {
        task: task.name,
        labels: start!.labels,
        base_model: { id: model.id, revision: model.revision, sha256: await sha256() },
        method: method.name,
        method_config: config,
        options: { ...options, base_dtype: start!.base_dtype, data: job.data, eval: job.eval, map: job.map },
        metrics: end.metrics,
        intervals,
        groups: grouped,
        steps: end.step,
        seconds: end.seconds,
        peak_rss_bytes: end.peak_rss_bytes,
        energy: used,
        seed: options.seed,
        versions: { "peft.js": version, node: process.versions.node },
      };
      const { modelCard } = await import("../adapters/model-card.js"); // with YAML's seventy modules, which the first step need not wait for
      const card = modelCard({
        base: model.id,
        task: task.name,
        method,
        config,
        data: job.data,
        trainRows: start!.train_rows,
        evalRows: start!.eval_rows,
        evalSource: start!.eval_source,
        labels: start!.labels,
        metrics: end.metrics,
        trainedParameters: start!.trained_parameters,
        totalParameters: start!.total_parameters,
        options,
        seconds: end.seconds,
        version,
        evalData: job.eval ?? job.data,
        intervals,
        groups: grouped,
        energy: used,
      });
      const files = {
        ...(await adapterFiles(model, adapter)),
        "training.json": `${JSON.stringify(record, null, 2)}\n`,
        "README.md": card,
      };
      await writeFolder(job.out, files);
      await log.add(end);
      yield end;
      return { adapter: result.value.adapter, path: job.out, finished: true, metrics: end.metrics };
    }
  } finally {
    await opened?.close();
    await dropIfEmpty();
  }
}

/** The task whose columns the rows have. Throws ConfigError where there is none. */
export function taskOfRows(rows: RowTable): Task {
  const columns = new Set(Object.keys(rows.rows[0] ?? {}));
  const found = labelledTasks.find((task) => showingForms(task).some((form) => form.every((column) => columns.has(column))));
  if (found !== undefined) return found;
  const wanted = labelledTasks
    .map(
      (task) =>
        `${task.name}: ${showingForms(task)
          .map((form) => form.join(", "))
          .join(", or ")}`,
    )
    .join("; ");
  const forms = labelledTasks.flatMap(showingForms);
  const unknown = [...columns].find((column) => !forms.some((form) => form.includes(column)));
  const lacking = nearestForm(forms, columns).find((column) => !columns.has(column));
  const rename = unknown === undefined ? "" : `rename columns with --map, for example --map ${lacking}=${unknown}; `;
  throw new ConfigError(`the columns of ${rows.origin} (${[...columns].join(", ")}) fit no task`, {
    hint: `${rename}tasks need ${wanted}; a task for plain texts must be named: --task fill-mask`,
  });
}
