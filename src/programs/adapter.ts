import { readAdapter } from "../adapters/index.js";
import { checkFit, type FitPlace, type PublishedAdapter, type WantedParam } from "../adapters/published.js";
import type { Value } from "../core/graph.js";
import type { RowTable } from "../data/rows.js";
import { AttachError, ConfigError, ModelError } from "../errors.js";
import type { Files } from "../io/files.js";
import { isRecord, readJson } from "../io/json.js";
import type { Attachment, Child, PeftMethod } from "../methods/method.js";
import { taskNamed, tasks } from "../tasks/index.js";
import type { Target, Task } from "../tasks/task.js";
import { attach, forwardGraph, headOf, survey, type TaskHead } from "./adapted-model.js";
import { type BaseModel, vocabularyOf } from "./base-model.js";
import { initialParams } from "./initial-params.js";
import { headClass } from "./model-files.js";
import { type Params, paramsOf } from "./program.js";

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
 * Reads an adapter's files, in whichever format, and fits it to a model. Label names come from training.json beside it, else from the
 * adapter's own files or the model's config. `taskName` is needed only where nothing names one; `own` are a program's own methods. An adapter without a head uses the model's own.
 * Throws FileError, ConfigError, WeightError or AttachError.
 */
export async function loadAdapter(model: BaseModel, files: Files, taskName?: string, own: readonly PeftMethod[] = []): Promise<Adapter> {
  return fitAdapter(model, files, await readAdapter(files, own), taskName);
}

/**
 * Reads an adapter that is used below others or with them: its own head does not matter, and where it has none it is planned for `head`.
 * Throws as `loadAdapter` does.
 */
export async function loadHeldAdapter(model: BaseModel, files: Files, head: TaskHead, own: readonly PeftMethod[] = []): Promise<Adapter> {
  const published = await readAdapter(files, own);
  const { task } = published.head;
  const brought = broughtOutputs(model, published, task === null ? head.task : taskNamed(task));
  if (brought !== undefined) return fitAdapter(model, files, published, task === null ? head.task.name : undefined);
  const attachment = attachPublished(model, head, published);
  const graph = ownGraph(model, head, attachment);
  const read = await withBrought(model, published, head, attachment, graph);
  if (read !== head) {
    throw new AttachError(
      `the adapter ${files.origin} holds weights of the base with other numbers, which others cannot share: ${read.brought!.join(", ")}`,
      {
        hint: "use it alone, or save it in Python with save_embedding_layers=False",
      },
    );
  }
  return { head, attachment, params: await fitted(model, published, head, attachment, graph) };
}

async function fitAdapter(model: BaseModel, files: Files, published: PublishedAdapter, taskName: string | undefined): Promise<Adapter> {
  const json = (await files.size("training.json")) === undefined ? {} : await readJson(files, "training.json");
  const record: TrainingRecord = isRecord(json) ? json : {};
  const named = publishedHead(model, published, taskOf(model, published, record, taskName), record);
  checkUndone(published, named);
  const attachment = attachPublished(model, named, published);
  const graph = forwardGraph(model, named, [attachment]);
  const head = await withBrought(model, published, named, attachment, graph);
  const whole = head === named ? graph : forwardGraph(model, head, [attachment]);
  return { head, attachment, params: await fitted(model, published, head, attachment, whole) };
}

/** Throws ConfigError for an adapter, or a composition's first, whose invertible layers Python did not undo before the head, where here they are. */
function checkUndone({ origin, notUndoneIn, children }: PublishedAdapter, { target, layers }: TaskHead): void {
  const trainedIn = notUndoneIn ?? children[0]?.adapter.notUndoneIn;
  if (trainedIn === undefined || target.kind !== "tokens" || layers !== undefined) return;
  throw new ConfigError(
    `${origin}: its invertible layers were trained in Python's ${trainedIn}, which does not undo them before its head; here they always are, so that other tokens would come out`,
    { hint: `train it in Python's AdapterModel class with a head of its own, or here; for tasks with labels it can be used as it is` },
  );
}

/** An adapter's parameters in the forward pass, without the head's, by their paths. */
function ownGraph(model: BaseModel, head: TaskHead, attachment: Attachment): Readonly<Record<string, Value>> {
  const weights = new Set(survey(model, head).weights.map(({ path }) => path));
  const leaves = paramsOf(forwardGraph(model, head, [attachment])).filter(({ leaf }) => !weights.has(leaf.path));
  return Object.fromEntries(leaves.map(({ value, leaf }) => [leaf.path, value]));
}

/** What files hold of an adapter and of all that it holds, without the head. */
function ownParams(model: BaseModel, head: TaskHead, attachment: Attachment): readonly WantedParam[] {
  return wantedParams(model, head, attachment, ownGraph(model, head, attachment));
}

/** What files hold of a graph and of all that its adapter holds. */
function wantedParams(
  model: BaseModel,
  head: TaskHead,
  attachment: Attachment,
  graph: Readonly<Record<string, Value>>,
): readonly WantedParam[] {
  const all = [...storedParams(graph), ...heldParams(model, head, attachment)];
  return [...new Map(all.map((param) => [param.path, param])).values()];
}

/**
 * All parameters of the adapters that a composition holds, by their paths in it: of some it reads a part only, as of the second one's
 * invertible adapter, and that part is theirs all the same.
 */
function heldParams(model: BaseModel, head: TaskHead, { children }: Attachment): readonly WantedParam[] {
  return children.flatMap(({ name, attachment }) =>
    ownParams(model, head, attachment).map(({ path, shape }) => ({ path: `${name}:${path}`, shape })),
  );
}

/** The parameters of a graph that files hold: those that are not computed from others. */
function storedParams(graph: Readonly<Record<string, Value>>): readonly WantedParam[] {
  return paramsOf(graph)
    .filter(({ leaf }) => leaf.derived !== true)
    .map(({ value, leaf }) => ({ path: leaf.path, shape: value.shape.map(Number) }));
}

/** The values of a graph's parameters and of all that the adapter holds: from the files, or as they start where the format leaves them out. */
async function fitted(
  model: BaseModel,
  published: PublishedAdapter,
  head: TaskHead,
  attachment: Attachment,
  graph: Readonly<Record<string, Value>>,
): Promise<Params> {
  const wanted = wantedParams(model, head, attachment, graph);
  const { faults, read } = published.fit(wanted, placeOf(model, head, attachment));
  checkFit(published, faults);
  const known = await read();
  return new Map([...(await initialParams(model, graph, 0, known)), ...known]);
}

/** Plans a published adapter on a model, those that it holds first. */
function attachPublished(model: BaseModel, head: TaskHead, { method, config, children }: PublishedAdapter): Attachment {
  const planned = children.map(({ name, adapter }): Child => ({ name, trained: false, attachment: attachPublished(model, head, adapter) }));
  return attach(model, head, method, config, "file", planned);
}

/** The head with the weights that files hold in place of the base's, where those are other numbers. */
async function withBrought(
  model: BaseModel,
  published: PublishedAdapter,
  head: TaskHead,
  attachment: Attachment,
  graph: Readonly<Record<string, Value>>,
): Promise<TaskHead> {
  const wanted = wantedParams(model, head, attachment, graph);
  const brought = [...(head.brought ?? [])];
  for (const [path, read] of published.fit(wanted, placeOf(model, head, attachment)).copies ?? []) {
    const { data, shape } = await read();
    const own = await model.read(path, shape);
    if (data.every((value, i) => value === own.data[i])) continue;
    if (wanted.some((param) => param.path === path)) {
      throw new AttachError(`the adapter ${published.origin} holds two sets of numbers for ${path}, one of them for the output matrix`, {
        hint: "merge it in Python, and use the merged model",
      });
    }
    brought.push(path);
  }
  return brought.length === (head.brought ?? []).length ? head : { ...head, brought };
}

/** Paths of weights for which another serves, with its path. */
function tiedWeights(model: BaseModel, head: TaskHead): ReadonlyMap<string, string> {
  return new Map(survey(model, head).linears.flatMap(({ path, tied }) => (tied === undefined ? [] : [[`${path}.weight`, tied] as const])));
}

function placeOf(model: BaseModel, head: TaskHead, { plan, children }: Attachment): FitPlace {
  const tied = tiedWeights(model, head);
  return {
    plan,
    prefix: model.family.prefix,
    baseWeight(path, shape) {
      const own = tied.get(path) ?? path;
      return String(model.shape(own)) === String(shape) ? own : undefined;
    },
    aliases: (path) => model.family.aliases?.(path) ?? [],
    children: children.map(({ attachment }) => placeOf(model, head, attachment)),
  };
}

/**
 * A base model without an adapter, as the task's model it already is; by default the task for which the checkpoint was made. Throws ModelError
 * when the checkpoint has no head for the task.
 */
export function withoutAdapter(model: BaseModel, given?: Task): TaskHead {
  const task = given ?? ownTask(model);
  const target = task === undefined ? undefined : baseTarget(model, task);
  if (task === undefined || target === undefined) {
    const what = task === undefined ? "" : ` for ${task.name}`;
    throw new ModelError(`${model.id} has no trained head${what}`, { hint: "give an adapter, or train one first" });
  }
  return { task, target };
}

/** The head to train on rows; the base model's own stays as it is where the task has it so. Throws DataError with file and line. */
export function headToTrain(model: BaseModel, task: Task, rows: RowTable): TaskHead {
  const target = task.target(rows, vocabularyOf(model));
  return { task, target, base: task.keepsHead && baseTarget(model, task) !== undefined };
}

/** The task for which a checkpoint was made, as config.json names it, where it has the head. */
function ownTask(model: BaseModel): Task | undefined {
  const architectures = isRecord(model.json) && Array.isArray(model.json.architectures) ? model.json.architectures.map(String) : [];
  return tasks.find((task) => architectures.some((name) => name.endsWith(headClass(model, task))) && baseTarget(model, task) !== undefined);
}

/** What a checkpoint's own head for a task gives; undefined where it has none. */
function baseTarget(model: BaseModel, task: Task): Target | undefined {
  const output = model.family.heads[task.name]?.output;
  const outputs = output === undefined ? undefined : model.shape(output)?.[0];
  return outputs === undefined ? undefined : task.targetOf(model.json, outputs, model.tokenizer);
}

/** The task that the adapter's files name, else training.json, else the caller, else the one for which the checkpoint was made. */
function taskOf(model: BaseModel, published: PublishedAdapter, record: TrainingRecord, given: string | undefined): Task {
  const named = published.head.task ?? (typeof record.task === "string" ? record.task : null);
  if (named !== null) {
    const task = taskNamed(named);
    if (given !== undefined && taskNamed(given) !== task) {
      throw new ConfigError(`the adapter ${published.origin} is for ${task.name}, not for ${given}`, {
        hint: "leave the task out: the adapter names it",
      });
    }
    return task;
  }
  if (given !== undefined) return taskNamed(given);
  const own = ownTask(model);
  if (own !== undefined) return own;
  throw new ConfigError(`the adapter ${published.origin} names no task, and neither does its base model`, {
    hint: "say which with --task",
  });
}

/** How many outputs the head has that an adapter's files bring; undefined where they bring none. */
function broughtOutputs(model: BaseModel, { head }: PublishedAdapter, task: Task): number | undefined {
  const { output, brought = output } = headOf(model, { task, layers: head.structure });
  return head.outputs(brought) === undefined ? undefined : head.outputs(output);
}

/** The head that an adapter brings, or the base model's own where it brings none. */
function publishedHead(model: BaseModel, published: PublishedAdapter, task: Task, record: TrainingRecord): TaskHead {
  const layers = published.head.structure;
  const outputs = broughtOutputs(model, published, task);
  if (outputs === undefined) {
    const target = baseTarget(model, task);
    if (target !== undefined) return { task, target, base: true };
    throw new ModelError(`neither the adapter ${published.origin} nor the base model has a head for ${task.name}`, {
      hint: `expected a tensor ${headOf(model, { task, layers }).output}`,
    });
  }
  const labels = Array.isArray(record.labels) ? record.labels.map(String) : published.head.labels;
  const target: Target =
    labels !== undefined && labels.length === outputs && outputs > 1
      ? { kind: "classes", labels }
      : task.targetOf(model.json, outputs, model.tokenizer);
  const { matrix } = headOf(model, { task, layers });
  const own = matrix !== undefined && published.head.outputs(matrix) !== undefined;
  return { task, target, layers, ...(own ? { brought: [matrix] } : {}) };
}
