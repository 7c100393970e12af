import { readAdapter } from "../adapters/index.js";
import { sizeOf } from "../core/tensor.js";
import { ConfigError, SessionError } from "../errors.js";
import type { Files } from "../io/files.js";
import { isRecord, readJson } from "../io/json.js";
import type { StoredTensor, TensorSource } from "../io/tensor-source.js";
import { openWeights } from "../io/weights.js";
import type { LinearSite, Method, TableSite } from "../methods/method.js";
import type { Runtime } from "../runtime/session.js";
import { taskNamed, tasks } from "../tasks/index.js";
import type { Task } from "../tasks/task.js";
import { attach, forwardGraph, newModules, survey, type TaskHead } from "./adapted-model.js";
import type { BaseDtype } from "./base-dtype.js";
import { type BaseModel, vocabularyOf } from "./base-model.js";
import { longestText } from "./limits.js";
import { estimateMemory, type MemoryEstimate } from "./memory.js";
import { countParameters, paramsOf } from "./program.js";
import { type BatchOptions, type TrainingPlan, trainingPlan } from "./training-plan.js";

const refuse = (): Promise<never> => Promise.reject(new SessionError("this model was opened to be looked at, not to be run"));

/** A runtime for looking at models: it keeps and runs nothing. */
export const noRuntime: Runtime = {
  threads: 0,
  weights: "inputs",
  keep: refuse,
  hold: refuse,
  createSession: refuse,
  own: () => noRuntime,
  close: () => Promise.resolve(),
};

/** Tensors of one stored type. */
export interface DTypeShare {
  readonly tensors: number;
  readonly parameters: number;
  readonly bytes: number;
}

/** A task that a model can do or learn. */
export interface TaskSummary {
  readonly task: string;
  /** Whether the checkpoint has a trained head, or one starts fresh. */
  readonly head: "trained" | "fresh";
  /** The trained head's label names in id order; null for numbers or a fresh head. */
  readonly labels: readonly string[] | null;
  /** Modules beside the head that the checkpoint lacks and that start fresh too. */
  readonly new_modules: readonly string[];
}

/** What a model's files say, without its weights being read. */
export interface ModelSummary {
  readonly kind: "model";
  readonly model: string;
  readonly revision: string | null;
  readonly model_type: string;
  readonly layers: number;
  readonly hidden_size: number;
  readonly heads: number;
  /** Numbers in the weight files. */
  readonly parameters: number;
  readonly weights: { readonly bytes: number; readonly tensors: number; readonly dtypes: Readonly<Record<string, DTypeShare>> };
  /** Tokens that a text may have. */
  readonly max_length: number;
  readonly tokenizer: {
    readonly vocab_size: number;
    readonly max_length: number | null;
    readonly special_tokens: Readonly<Record<string, string>>;
  };
  readonly tasks: readonly TaskSummary[];
  /** Linear layers by what they do. */
  readonly linear_layers: readonly LayerGroup[];
}

/** Linear layers, or embedding tables, of one role and size; `path` has "*" where their numbers differ. */
export interface LayerGroup {
  readonly role: (LinearSite | TableSite)["role"];
  readonly path: string;
  readonly count: number;
  readonly in_features: number;
  readonly out_features: number;
}

/** What a method would do to a model. */
export interface MethodSummary {
  readonly method: string;
  readonly task: string;
  /** With defaults filled in. */
  readonly config: object;
  readonly learning_rate: number;
  /** Layers that get parameters of their own, with how many these are in all. */
  readonly attached: readonly (LayerGroup & { readonly parameters: number })[];
  /** Modules trained and saved in full: the head, and what the checkpoint lacks. */
  readonly saved_modules: readonly string[];
  readonly trained_parameters: number;
  readonly total_parameters: number;
  /** How the frozen matrices of linear layers would be stored. */
  readonly base_dtype: BaseDtype;
  readonly memory: MemoryEstimate;
}

/** What an adapter's files say. */
export interface AdapterSummary {
  readonly kind: "adapter";
  readonly adapter: string;
  readonly method: string;
  /** The Hub's name; null where the files name none. */
  readonly task: string | null;
  readonly base_model: string | null;
  readonly config: object;
  readonly parameters: number;
  readonly tensors: Readonly<Record<string, StoredTensor>>;
  /** From training.json; null where it is not there. */
  readonly labels: readonly string[] | null;
  readonly metrics: Readonly<Record<string, unknown>> | null;
  readonly training: Readonly<Record<string, unknown>> | null;
}

/** Looks at a model: config, tokenizer and the weights' headers. Throws WeightError when the checkpoint lacks weights. */
export async function inspectModel(model: BaseModel): Promise<ModelSummary> {
  const { tensors } = await openWeights(model.files);
  const known = tasks.filter((task) => model.family.heads[task.name] !== undefined);
  const sites = survey(model, headFor(model, known[0]!));
  const { tokenizer } = model;
  const special = {
    pad: tokenizer.padId,
    cls: tokenizer.clsId,
    sep: tokenizer.sepId,
    unk: tokenizer.unkId,
    bos: tokenizer.bosId,
    eos: tokenizer.eosId,
    mask: tokenizer.maskId,
  };
  const dtypes = sharesOf(tensors);
  return {
    kind: "model",
    model: model.id,
    revision: model.revision,
    model_type:
      model.family.model_types.find((type) => isRecord(model.json) && model.json.model_type === type) ?? model.family.model_types[0]!,
    layers: new Set(sites.attentions.map(({ layer }) => layer)).size,
    hidden_size: sites.sublayers[0]?.width ?? 0,
    heads: sites.attentions[0]?.heads ?? 0,
    parameters: Object.values(dtypes).reduce((total, share) => total + share.parameters, 0),
    weights: { bytes: Object.values(dtypes).reduce((total, share) => total + share.bytes, 0), tensors: tensors.size, dtypes },
    max_length: longestText(model, null, []),
    tokenizer: {
      vocab_size: tokenizer.vocabSize,
      max_length: tokenizer.modelMaxLength ?? null,
      special_tokens: Object.fromEntries(
        Object.entries(special).flatMap(([name, id]) => (id === undefined ? [] : [[name, tokenizer.decode([id])]])),
      ),
    },
    tasks: known.map((task) => taskSummary(model, task)),
    linear_layers: groupsOf(sites.linears),
  };
}

/** What `inspectMethod` is told. */
export interface MethodQuestion {
  readonly method: Method;
  /** Defaults filled in. */
  readonly config: object;
  /** The Hub's name; the first that the model has a head for by default. */
  readonly task?: string | undefined;
  /** Labels of a fresh head; 2 by default. */
  readonly labels?: number | undefined;
  /** What decides the size and the work of a step. */
  readonly options: BatchOptions;
}

/** A method on a model, before it is trained. */
export interface PlannedMethod {
  readonly summary: MethodSummary;
  readonly plan: TrainingPlan;
}

/** What a method would attach to a model and train, and the memory that takes. Throws AttachError when it cannot attach. */
export function inspectMethod(model: BaseModel, { method, config, task, labels, options }: MethodQuestion): PlannedMethod {
  const chosen = task === undefined ? tasks.find((each) => model.family.heads[each.name] !== undefined)! : taskNamed(task);
  const head = headFor(model, chosen, labels);
  const sites = survey(model, head);
  const attachment = attach(model, head, method, config, "user");
  const graph = forwardGraph(model, head, [attachment]);
  const own = new Set(sites.weights.map(({ path }) => path));
  const added = paramsOf(graph).filter(({ leaf }) => !own.has(leaf.path));
  const parametersAt = (site: LinearSite | TableSite): number =>
    added.reduce((total, { value, leaf }) => total + (leaf.path.startsWith(`${site.path}.`) ? sizeOf(value.shape.map(Number)) : 0), 0);
  const attached = [...sites.tables, ...sites.linears].filter((site) => parametersAt(site) > 0);
  const plan = trainingPlan(model, head, [attachment], options);
  const summary = {
    method: method.name,
    task: chosen.name,
    config,
    learning_rate: method.learningRate,
    attached: groupsOf(attached).map((group) => ({
      ...group,
      parameters: attached.filter((site) => keyOf(site) === keyOf(group)).reduce((total, site) => total + parametersAt(site), 0),
    })),
    saved_modules: sites.headModules,
    ...countParameters(graph),
    base_dtype: plan.base_dtype,
    memory: estimateMemory(model, plan),
  };
  return { summary, plan };
}

/** Looks at an adapter's files; its base model is not needed. Throws FileError, ConfigError or WeightError. */
export async function inspectAdapter(files: Files): Promise<AdapterSummary> {
  const { method, config, head, base, tensors, origin } = await readAdapter(files);
  const record = (await files.size("training.json")) === undefined ? null : await readJson(files, "training.json");
  if (record !== null && !isRecord(record)) throw new ConfigError(`${origin}/training.json holds no JSON object`);
  return {
    kind: "adapter",
    adapter: origin,
    method: method.name,
    task: head.task,
    base_model: base,
    config,
    parameters: [...tensors.values()].reduce((total, { shape }) => total + sizeOf(shape), 0),
    tensors: Object.fromEntries([...tensors].map(([name, { dtype, shape }]) => [name, { dtype, shape }])),
    labels: Array.isArray(record?.labels) ? record.labels.map(String) : null,
    metrics: isRecord(record?.metrics) ? record.metrics : null,
    training: record,
  };
}

function taskSummary(model: BaseModel, task: Task): TaskSummary {
  const head = headFor(model, task);
  const trained = model.shape(model.family.heads[task.name]!.output) !== undefined;
  return {
    task: task.name,
    head: trained ? "trained" : "fresh",
    labels: trained && head.target.kind === "classes" ? head.target.labels : null,
    new_modules: newModules(model, head),
  };
}

/** The task's head as the checkpoint has it, or a fresh one. */
function headFor(model: BaseModel, task: Task, labels = 2): TaskHead {
  const output = model.family.heads[task.name]?.output;
  const outputs = output === undefined ? undefined : model.shape(output)?.[0];
  if (outputs !== undefined) return { task, target: task.targetOf(model.json, outputs, model.tokenizer), base: task.keepsHead };
  if (task.keepsHead) return { task, target: { kind: "tokens", vocabulary: vocabularyOf(model) } };
  return { task, target: { kind: "classes", labels: Array.from({ length: labels }, (_, i) => `LABEL_${i}`) } };
}

function groupsOf(sites: readonly (LinearSite | TableSite)[]): readonly LayerGroup[] {
  const groups = new Map<string, LayerGroup>();
  for (const site of sites) {
    const key = keyOf(site);
    const before = groups.get(key);
    const path = before === undefined ? site.path : starred(site.path);
    groups.set(key, {
      role: site.role,
      path,
      count: (before?.count ?? 0) + 1,
      in_features: site.inFeatures,
      out_features: site.outFeatures,
    });
  }
  return [...groups.values()];
}

function keyOf(site: LinearSite | TableSite | LayerGroup): string {
  const [inputs, outputs] = "inFeatures" in site ? [site.inFeatures, site.outFeatures] : [site.in_features, site.out_features];
  return `${site.role} ${starred(site.path)} ${inputs} ${outputs}`;
}

function starred(path: string): string {
  return path.replaceAll(/\.\d+(?=\.)/g, ".*");
}

function sharesOf(tensors: TensorSource["tensors"]): Readonly<Record<string, DTypeShare>> {
  const shares = new Map<string, DTypeShare>();
  for (const { dtype, shape, packed } of tensors.values()) {
    const type = packed?.type ?? dtype;
    const { tensors: count, parameters, bytes } = shares.get(type) ?? { tensors: 0, parameters: 0, bytes: 0 };
    const size = sizeOf(shape);
    const added = packed?.bytes ?? size * (bytesPer[dtype] ?? 1);
    shares.set(type, { tensors: count + 1, parameters: parameters + size, bytes: bytes + added });
  }
  return Object.fromEntries(shares);
}

const bytesPer: Readonly<Record<string, number>> = { F64: 8, I64: 8, F32: 4, I32: 4, F16: 2, BF16: 2, I16: 2 };
