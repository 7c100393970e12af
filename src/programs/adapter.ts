import { configFile, type PublishedAdapter, readPeftAdapter, readPeftTensors, writePeftAdapter } from "../adapters/peft-format.js";
import type { Tensor } from "../core/tensor.js";
import { ConfigError, ModelError } from "../errors.js";
import type { Files } from "../io/files.js";
import { isRecord, readJson } from "../io/json.js";
import type { Attachment } from "../methods/method.js";
import { taskNamed, taskOfType } from "../tasks/index.js";
import type { Target, Task } from "../tasks/task.js";
import { attach, forwardGraph, publishedGraph, survey, type TaskHead } from "./adapted-model.js";
import type { BaseModel } from "./base-model.js";
import { initialParams } from "./initial-params.js";
import { loadProgram, type Params, paramsOf } from "./program.js";

/** An adapter that fits a model: a method planned on it, a task with its target, and the tensors. */
export interface Adapter {
  readonly head: TaskHead;
  readonly attachment: Attachment;
  readonly params: Params;
}

/** What training.json tells a reader of its adapter. */
interface TrainingRecord {
  readonly task?: unknown;
  readonly labels?: unknown;
}

/**
 * Reads an adapter's files and fits it to a model. Label names come from training.json beside it, else from the model's config.
 * `task` is needed only where the adapter names none. Throws FileError, ConfigError, WeightError or AttachError.
 */
export async function loadAdapter(model: BaseModel, files: Files, taskName?: string): Promise<Adapter> {
  const published = await readPeftAdapter(files);
  const record = (await files.size("training.json")) === undefined ? {} : ((await readJson(files, "training.json")) as TrainingRecord);
  const task = taskOf(published, taskName);
  const head = { task, target: targetOf(model, published, task, record) };
  const attachment = attach(model, head, published.method, published.config, "file");
  const graph = forwardGraph(model, head, [attachment]);
  const expected = paramsOf(graph).map(({ value, leaf }) => ({ path: leaf.path, shape: value.shape.map(Number) }));
  const tensors = await readPeftTensors(published, expected, attachment.plan, model.family.prefix);
  const params = tensors.size === expected.length ? tensors : new Map([...(await initialParams(model, graph, 0)), ...tensors]);
  return { head, attachment, params };
}

/** A base model without an adapter, as the task's model it already is. Throws ModelError when the checkpoint has no head for the task. */
export function withoutAdapter(model: BaseModel, task: Task): TaskHead {
  const head = model.family.heads[task.name];
  const outputs = head === undefined ? undefined : model.shape(`${head.output}.weight`)?.[0];
  if (outputs === undefined) {
    throw new ModelError(`${model.id} has no trained head for ${task.name}`, { hint: "give an adapter, or train one first" });
  }
  return { task, target: task.targetOf(model.json, outputs) };
}

/** The adapter's files in Hugging Face PEFT's format. */
export async function adapterFiles(model: BaseModel, adapter: Adapter): Promise<Readonly<Record<string, Uint8Array>>> {
  const { head, attachment } = adapter;
  const { headModules } = survey(model, head);
  const savedModules = head.task.peftTaskType === "SEQ_CLS" ? [...headModules, "score"] : headModules;
  return writePeftAdapter(attachment, await publishedParams(model, adapter), {
    taskType: head.task.peftTaskType,
    base: model.id,
    revision: model.revision,
    savedModules,
    prefix: model.family.prefix,
  });
}

/** The adapter's tensors as its files hold them: values that a method publishes stand in place of the parameters they are computed from. */
async function publishedParams(model: BaseModel, { head, attachment, params }: Adapter): Promise<Params> {
  const outputs = publishedGraph(model, head, [attachment]);
  if (Object.keys(outputs).length === 0) return params;
  const replaced = new Set(paramsOf(outputs).map(({ leaf }) => leaf.path));
  const program = await loadProgram(model, outputs);
  try {
    const values = await program.run({ batch: {}, params });
    const published = Object.keys(outputs).map((name) => [name, values[name] as Tensor<"float32">] as const);
    return new Map([...published, ...[...params].filter(([path]) => !replaced.has(path))]);
  } finally {
    await program.dispose();
  }
}

function taskOf(published: PublishedAdapter, given: string | undefined): Task {
  if (published.taskType === null) {
    if (given === undefined)
      throw new ConfigError(`${published.origin}/${configFile} names no task_type`, { hint: "say which with --task" });
    return taskNamed(given);
  }
  const task = taskOfType(published.taskType);
  if (given !== undefined && taskNamed(given) !== task) {
    throw new ConfigError(`the adapter ${published.origin} is for ${task.name}, not for ${given}`, {
      hint: "leave the task out: the adapter names it",
    });
  }
  return task;
}

function targetOf(model: BaseModel, published: PublishedAdapter, task: Task, record: TrainingRecord): Target {
  const output = model.family.heads[task.name]?.output;
  const key = `${published.method.files.prefix}${output}.weight`;
  const outputs = published.tensors.tensors.get(key)?.shape[0] ?? (output === undefined ? undefined : model.shape(`${output}.weight`)?.[0]);
  if (outputs === undefined)
    throw new ModelError(`neither the adapter ${published.origin} nor the base model has a head for ${task.name}`, {
      hint: `expected a tensor ${key}`,
    });
  const { labels } = isRecord(record) ? record : {};
  if (Array.isArray(labels) && labels.length === outputs) return { kind: "classes", labels: labels.map(String) };
  return task.targetOf(model.json, outputs);
}
