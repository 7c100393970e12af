import type { Tensor } from "../core/tensor.js";
import { ConfigError } from "../errors.js";
import { leaves } from "../methods/composition.js";
import { compositions } from "../methods/index.js";
import type { Attachment, Child, Method } from "../methods/method.js";
import { stack } from "../methods/stack.js";
import { attach, forwardGraph, type TaskHead } from "./adapted-model.js";
import type { Adapter } from "./adapter.js";
import type { BaseModel } from "./base-model.js";
import { type Params, paramsOf } from "./program.js";

/** An adapter that is held by a composition. */
export interface NamedAdapter {
  readonly name: string;
  readonly adapter: Adapter;
}

/** What an adapter on top of others is called in their stack. */
const topName = "task";

/** An attachment with the values of the adapters that it holds. */
export interface Composed {
  readonly attachment: Attachment;
  /** Parameters of the adapters held, by their paths in the composition. */
  readonly params: Params;
}

/**
 * Plans what is to be trained: a method alone; on top of other adapters, which stay frozen; or a composition of them. Throws ConfigError or
 * AttachError where they cannot be used together.
 */
export function composeTrained(model: BaseModel, head: TaskHead, method: Method, config: object, held: readonly NamedAdapter[]): Composed {
  if (held.length === 0) return { attachment: attach(model, head, method, config, "user"), params: new Map() };
  const onTop = (): Composed => {
    const top: Child = { name: topName, trained: true, attachment: attach(model, head, method, config, "user") };
    return compose(model, head, stack, {}, held, [top]);
  };
  const composed = compositions.includes(method) ? compose(model, head, method, config, held) : onTop();
  checkFiles(composed.attachment);
  return composed;
}

/** Plans a composition of adapters, and of children on top that have no values yet. The adapters of stacks within a stack become its own. */
export function compose(
  model: BaseModel,
  head: TaskHead,
  method: Method,
  config: object,
  held: readonly NamedAdapter[],
  top: readonly Child[] = [],
): Composed {
  const children: Child[] = [];
  const params = new Map<string, Tensor<"float32">>();
  for (const { name, adapter } of held) {
    checkName(name);
    const inner = adapter.attachment;
    const flat = method === stack && inner.method === stack;
    if (flat) children.push(...inner.children.map((child) => ({ ...child, trained: false })));
    else children.push({ name, trained: false, attachment: inner });
    for (const [path, tensor] of adapter.params) params.set(flat ? path : `${name}:${path}`, tensor);
  }
  return { attachment: attach(model, head, method, config, "user", [...children, ...top]), params };
}

/** What was trained must be written in the end, and AdapterHub's files of compositions hold adapter layers only. */
function checkFiles(attachment: Attachment): void {
  const others = leaves({ name: "", trained: false, attachment }).filter((leaf) => !("library" in leaf.attachment.method.files));
  if (others.length === 0) return;
  const names = others.map((leaf) => `${leaf.attachment.method.name} (${leaf.name})`);
  throw new ConfigError(`what is trained on top of adapters, and these, must be adapter layers, not ${names.join(", ")}`, {
    hint: "AdapterHub's files of compositions hold adapter layers only; train --method seq_bn on others of that kind",
  });
}

/**
 * A stack with another adapter in the place of the one named: MAD-X's exchange of the language under a task. Throws ConfigError where there is
 * no such adapter, or AttachError where they cannot be used together.
 */
export function exchange(model: BaseModel, { head, attachment, params }: Adapter, name: string, other: NamedAdapter): Adapter {
  const { method, config, children } = attachment;
  if (!children.some((child) => child.name === name)) {
    throw new ConfigError(`there is no adapter "${name}" to exchange`, {
      hint: `the composition holds: ${children.map((child) => child.name).join(", ") || "none"}`,
    });
  }
  checkName(other.name);
  const exchanged = children.map((child) =>
    child.name === name ? { name: other.name, trained: false, attachment: other.adapter.attachment } : child,
  );
  const planned = attach(model, head, method, config, "user", exchanged);
  const paths = new Set(paramsOf(forwardGraph(model, head, [planned])).map(({ leaf }) => leaf.path));
  const added = [...other.adapter.params].map(([path, tensor]) => [`${other.name}:${path}`, tensor] as const);
  const all = new Map([...params, ...added]);
  return { head, attachment: planned, params: new Map([...all].filter(([path]) => paths.has(path))) };
}

/** Names become folders and parts of tensors' names. */
function checkName(name: string): void {
  if (/^[\w-]+$/.test(name)) return;
  throw new ConfigError(`an adapter cannot be named "${name}"`, { hint: "use letters, digits, - and _" });
}
