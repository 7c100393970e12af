import { batchInputs } from "../core/batch.js";
import type { Value } from "../core/graph.js";
import { ModelError } from "../errors.js";
import type { Attachment, ConfigOrigin, Method, Sites } from "../methods/method.js";
import { ModelBuilder } from "../models/builder.js";
import { mul } from "../ops/elementwise.js";
import { gradient } from "../ops/gradient.js";
import { gather } from "../ops/movement.js";
import type { Target, Task } from "../tasks/task.js";
import type { BaseModel } from "./base-model.js";
import { layoutOf } from "./limits.js";
import { paramsOf } from "./program.js";

/** A model's task: which head it has and what that head gives. */
export interface TaskHead {
  readonly task: Task;
  readonly target: Target;
}

/** A model's graph with its head and its adapters, before it is made a program. */
interface BuiltModel {
  readonly logits: Value;
  readonly batch: ReturnType<typeof batchInputs>;
  readonly sites: Sites;
  /** Values that stand for parameters in published files, by their names there. */
  readonly published: ReadonlyMap<string, Value>;
}

/** How the model's own dropout behaves in training: off, as its config says, or one rate everywhere. */
export type ModelDropout = "off" | "model" | number;

function build(model: BaseModel, { task, target }: TaskHead, attachments: readonly Attachment[], dropout?: ModelDropout): BuiltModel {
  const head = model.family.heads[task.name];
  if (head === undefined) {
    throw new ModelError(`a ${model.family.model_types[0]} model has no head for ${task.name}`, {
      hint: `its tasks: ${Object.keys(model.family.heads).join(", ")}`,
    });
  }
  const batch = batchInputs(task.onePerText, layoutOf(attachments));
  const rate =
    dropout === undefined
      ? undefined
      : (configured: number): number => (dropout === "off" ? 0 : dropout === "model" ? configured : dropout);
  const m = new ModelBuilder({
    batch,
    has: (path) => model.shape(path) !== undefined,
    headModules: head.modules,
    attachments,
    dropout: rate,
  });
  const read = task.onePerText
    ? model.family.encode(m, model.config, batch.lossRows)
    : gather(model.family.encode(m, model.config), batch.lossRows);
  const logits = head.build(m, read, task.outputs(target), model.config);
  return { logits, batch, sites: m.sites(), published: m.published() };
}

/** Lists a model's sites, with no method attached. */
export function survey(model: BaseModel, head: TaskHead): Sites {
  return build(model, head, []).sites;
}

/** Modules that the checkpoint lacks, beside the head's own: they start fresh and are trained and saved with the adapter. */
export function newModules(model: BaseModel, head: TaskHead): readonly string[] {
  const own = model.family.heads[head.task.name]?.modules ?? [];
  return survey(model, head).headModules.filter((module) => !own.includes(module));
}

/** Plans a method on a model. Throws AttachError when it cannot attach. */
export function attach(model: BaseModel, head: TaskHead, method: Method, config: object, origin: ConfigOrigin): Attachment {
  return { method, config, plan: method.plan(survey(model, head), config, origin) };
}

/** The values that a published file holds instead of the parameters they are computed from; none for most methods. */
export function publishedGraph(model: BaseModel, head: TaskHead, attachments: readonly Attachment[]): Readonly<Record<string, Value>> {
  return Object.fromEntries(build(model, head, attachments).published);
}

/** The graph of a forward pass: packed rows in, `logits` [L, outputs] out. */
export function forwardGraph(model: BaseModel, head: TaskHead, attachments: readonly Attachment[]): { readonly logits: Value } {
  return { logits: build(model, head, attachments).logits };
}

/** The graph of a training step: `loss` (already scaled by lossScale), and the gradient of each trained parameter as `grad:<path>`. */
export function trainGraph(
  model: BaseModel,
  { task, target }: TaskHead,
  attachments: readonly Attachment[],
  dropout: ModelDropout,
): Readonly<Record<string, Value>> {
  const { logits, batch } = build(model, { task, target }, attachments, dropout);
  const loss = mul(task.loss(logits, batch, target), batch.lossScale);
  const trained = paramsOf({ loss }).filter(({ leaf }) => leaf.trained);
  const grads = gradient(
    loss,
    trained.map(({ value }) => value),
  );
  return { loss, ...Object.fromEntries(trained.map(({ leaf }, i) => [`grad:${leaf.path}`, grads[i]!])) };
}
