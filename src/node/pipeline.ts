import type { PeftMethod } from "../methods/method.js";
import { withoutAdapter } from "../programs/adapter.js";
import { callable, type Pipeline } from "../programs/callable.js";
import { Switchboard } from "../programs/switchboard.js";
import { taskNamed } from "../tasks/index.js";
import { type LoadedModel, type LoadOptions, loadAdapter, loadModel } from "./load-model.js";

/** What a pipeline is made of. */
export interface PipelineOptions extends LoadOptions {
  /** A base model by name, or one that is loaded already (and stays open when the pipeline is disposed of). */
  readonly model?: string | LoadedModel;
  /** A folder or hub id: an adapter that is called "default" and in use from the start. */
  readonly adapter?: string;
  /** Further adapters by name, folders or hub ids; none of them is in use before `use`. */
  readonly adapters?: Readonly<Record<string, string>>;
  /** Sessions that may be loaded at a time, one for each structure of adapter; 4 by default. */
  readonly sessions?: number;
  /** The program's own methods, which adapters may be of. */
  readonly methods?: readonly PeftMethod[];
}

/**
 * Makes a callable: `const model = await pipeline({ model: "minilm", adapters: { legal: "my-legal", chat: "org/chat" } })`, then `model.use("legal")` or
 * `model(text, { adapter: "chat" })`. A task, where it is given, is that of all adapters. Without adapters the base model must have a trained
 * head. Throws as `loadModel` and `loadAdapter` do.
 */
export async function pipeline(task: string, options?: PipelineOptions): Promise<Pipeline>;
export async function pipeline(options?: PipelineOptions): Promise<Pipeline>;
export async function pipeline(first?: string | PipelineOptions, second: PipelineOptions = {}): Promise<Pipeline> {
  const [task, options] = typeof first === "string" ? [first, second] : [undefined, first ?? {}];
  const { model: given = "minilm", adapter, adapters, sessions, ...loading } = options;
  const known = task === undefined ? undefined : taskNamed(task);
  const model = typeof given === "string" ? await loadModel(given, loading) : given;
  const close = async (): Promise<void> => {
    if (typeof given === "string") await model.close();
  };
  try {
    if (adapter === undefined && adapters === undefined) withoutAdapter(model, known);
    const board = new Switchboard(model, { task, sessions });
    const ready = callable(board, (place, own = task) => loadAdapter(model, place, { ...loading, task: own }), close);
    if (adapter !== undefined) {
      await ready.load("default", adapter);
      ready.use("default");
    }
    for (const [name, place] of Object.entries(adapters ?? {})) await ready.load(name, place);
    return ready;
  } catch (error) {
    await close();
    throw error;
  }
}
