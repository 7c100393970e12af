import { batchInputs, cacheInputs } from "../core/batch.js";
import type { Value } from "../core/graph.js";
import { AttachError, ModelError } from "../errors.js";
import { layoutOf, readsWholeTexts } from "../methods/layout.js";
import type { Attachment, Child, ConfigOrigin, Method, Sites } from "../methods/method.js";
import { isSaved, modulesOf, savedModules } from "../methods/targets.js";
import { ModelBuilder } from "../models/builder.js";
import type { Head } from "../models/family.js";
import { type LayeredHead, layeredHead } from "../models/layered-head.js";
import { withSharedParts } from "../ops/block-product.js";
import { add, mul, scalar } from "../ops/elementwise.js";
import { gradient } from "../ops/gradient.js";
import { expand, gather, reshape } from "../ops/movement.js";
import { kept, recomputed } from "../ops/recompute.js";
import { sum } from "../ops/reduce.js";
import { withResidualNorms } from "../ops/residual-norm.js";
import type { Target, Task } from "../tasks/task.js";
import { type BaseDtype, decodingForms, formOf, pickBaseDtype } from "./base-dtype.js";
import type { BaseModel } from "./base-model.js";
import { paramsOf } from "./program.js";

/** A model's task: which head it has and what that head gives. */
export interface TaskHead {
  readonly task: Task;
  readonly target: Target;
  /** The head's layers, where an adapter brings another kind of head than the model's own. */
  readonly layers?: LayeredHead | undefined;
  /** Whether the head is the base model's and stays as it is, because the adapter brings none. */
  readonly base?: boolean;
  /** Weights that the adapter's files hold in place of the base's, beside what its config names. */
  readonly brought?: readonly string[];
}

/** A model's graph with its head and its adapters, before it is made a program. */
interface BuiltModel {
  readonly logits: Value;
  readonly batch: ReturnType<typeof batchInputs>;
  readonly sites: Sites;
  /** Values that stand for parameters in published files, by their names there. */
  readonly published: ReadonlyMap<string, Value>;
  /** Scalars that methods add to the loss of an optimiser step. */
  readonly penalties: readonly Value[];
  /** What goes into each of the model's layers. */
  readonly layerInputs: readonly Value[];
  /** Where texts are continued: all layers' keys and values, by their names. */
  readonly present: ReadonlyMap<string, Value>;
}

/** How a graph is to be built beyond what its adapters say. */
interface BuildOptions {
  /** In training. */
  readonly dropout?: ModelDropout;
  /** Whether batches continue texts whose keys and values are fed. */
  readonly cached?: boolean;
}

/** How the model's own dropout behaves in training: off, as its config says, or one rate everywhere. */
export type ModelDropout = "off" | "model" | number;

/** The structure of a model's head. Throws ModelError where the family has none for the task. */
export function headOf(model: BaseModel, { task, layers }: Pick<TaskHead, "task" | "layers">): Head {
  if (layers !== undefined) return layeredHead(model.family, layers);
  const head = model.family.heads[task.name];
  if (head !== undefined) return head;
  throw new ModelError(`a ${model.family.model_types[0]} model has no head for ${task.name}`, {
    hint: `its tasks: ${Object.keys(model.family.heads).join(", ")}`,
  });
}

function build(
  model: BaseModel,
  taskHead: TaskHead,
  attachments: readonly Attachment[],
  { dropout, cached = false }: BuildOptions = {},
): BuiltModel {
  const { task, target } = taskHead;
  const head = headOf(model, taskHead);
  const layout = layoutOf(attachments);
  const batch = { ...batchInputs(task.onePerText, layout), ...(cached ? { cache: cacheInputs(layout.positionOffset) } : {}) };
  const rate =
    dropout === undefined
      ? undefined
      : (configured: number): number => (dropout === "off" ? 0 : dropout === "model" ? configured : dropout);
  const m = new ModelBuilder({
    batch,
    has: (path) => model.shape(path) !== undefined,
    headModules: taskHead.base === true ? [] : head.modules,
    brought: taskHead.brought,
    attachments,
    dropout: rate,
    ...(cached ? decodingForms(model.baseDtype, model.runtime) : { form: formOf(model.baseDtype) }),
  });
  const read =
    task.onePerText && !readsWholeTexts(attachments)
      ? model.family.encode(m, model.config, batch.lossRows)
      : gather(model.family.encode(m, model.config), batch.lossRows);
  const logits = head.build(m, read, task.outputs(target), model.config);
  return {
    ...{ logits, batch, sites: m.sites(), published: m.published(), penalties: m.penalties() },
    ...{ layerInputs: m.layerInputs(), present: m.present() },
  };
}

/** Lists a model's sites, with no method attached. */
export function survey(model: BaseModel, head: TaskHead): Sites {
  return build(model, head, []).sites;
}

/** The same model with its frozen matrices stored as asked; `auto` is for the model and the task of `head`. */
export function withBaseDtype<M extends BaseModel>(model: M, head: TaskHead, choice: BaseDtype | "auto"): M {
  return { ...model, baseDtype: choice === "auto" ? pickBaseDtype(survey(model, head), head.task) : choice };
}

/** Modules that the checkpoint lacks, beside the head's own: they start fresh and are trained and saved with the adapter. */
export function newModules(model: BaseModel, head: TaskHead): readonly string[] {
  const own = headOf(model, head).modules;
  return survey(model, head).headModules.filter((module) => !own.includes(module));
}

/** Plans a method on a model, with the adapters that a composition holds. Throws AttachError when it cannot attach. */
export function attach(
  model: BaseModel,
  head: TaskHead,
  method: Method,
  config: object,
  origin: ConfigOrigin,
  children: readonly Child[] = [],
): Attachment {
  const sites = survey(model, head);
  if (origin === "user") checkSaved(sites, config);
  return { method, config, plan: method.plan(sites, config, origin, children), children };
}

/** Throws AttachError that lists a config's modules_to_save which are none of the model's. */
function checkSaved(sites: Sites, config: object): void {
  const entries = savedModules(config);
  const modules = modulesOf(sites);
  const idle = entries.filter((entry) => !modules.some((module) => isSaved(module, [entry])));
  if (idle.length === 0) return;
  const names = [...new Set(modules.flatMap((module) => module.split(".").filter((part) => !/^\d+$/.test(part))))].sort();
  throw new AttachError(`modules_to_save: ${idle.map((each) => `"${each}"`).join(", ")} match no module of this model`, {
    hint: `names and ends of paths count; names here: ${names.join(", ")}`,
  });
}

/** The values that a published file holds instead of the parameters they are computed from; none for most methods. */
export function publishedGraph(model: BaseModel, head: TaskHead, attachments: readonly Attachment[]): Readonly<Record<string, Value>> {
  return Object.fromEntries(build(model, head, attachments).published);
}

/** The graph of a forward pass: packed rows in, `logits` [L, outputs] out. */
export function forwardGraph(model: BaseModel, head: TaskHead, attachments: readonly Attachment[]): { readonly logits: Value } {
  return { logits: build(model, head, attachments).logits };
}

/**
 * The graph of a forward pass for a task: packed rows and the loss's inputs in, out `kept` [L, width], what the task keeps of the head's
 * outputs; `logits` where it keeps all of them, or they are wanted `whole`.
 */
export function outputGraph(
  model: BaseModel,
  head: TaskHead,
  attachments: readonly Attachment[],
  whole = false,
): { readonly logits: Value } | { readonly kept: Value } {
  const { logits, batch } = build(model, head, attachments);
  const { keep } = head.task;
  return keep === undefined || whole ? { logits } : { kept: keep.of(logits, batch) };
}

/** The graph of a pass that continues texts: further rows and the cached keys and values in, `logits` [L, outputs] and all keys and values out. */
export function decodeGraph(model: BaseModel, head: TaskHead, attachments: readonly Attachment[]): Readonly<Record<string, Value>> {
  const { logits, present } = build(model, head, attachments, { cached: true });
  return withSharedParts(withResidualNorms({ logits, ...Object.fromEntries(present) }));
}

/**
 * The graph of a training step: `loss` (already scaled by lossScale), and the gradient of each trained parameter as `grad:<path>`. What
 * methods add to the loss is in the gradients, not in `loss`; each batch of a step bears its share of it. `recompute` computes each layer a
 * second time in the backward pass, instead of keeping its values: less memory, and about a fifth slower.
 */
export function trainGraph(
  model: BaseModel,
  head: TaskHead,
  attachments: readonly Attachment[],
  dropout: ModelDropout,
  recompute = false,
): Readonly<Record<string, Value>> {
  const { logits, batch, penalties, layerInputs } = build(model, head, attachments, { dropout });
  const loss = mul(head.task.loss(logits, batch, head.target), batch.lossScale);
  const rows = sum(expand(scalar(1), [logits.shape[0]!]), [0]);
  const share = reshape(mul(rows, batch.lossScale), []);
  const total = penalties.reduce((before, penalty) => add(before, mul(penalty, share)), loss);
  const trained = paramsOf({ total }).filter(({ leaf }) => leaf.trained);
  const grads = gradient(
    total,
    trained.map(({ value }) => value),
    recompute ? recomputed(total, layerInputs) : kept,
  );
  return { loss, ...Object.fromEntries(trained.map(({ leaf }, i) => [`grad:${leaf.path}`, grads[i]!])) };
}
