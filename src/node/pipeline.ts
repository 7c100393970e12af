import { ConfigError } from "../errors.js";
import type { PeftMethod } from "../methods/method.js";
import { withoutAdapter } from "../programs/adapter.js";
import { type Classifier, classifier, predictor } from "../programs/pipeline.js";
import { taskNamed } from "../tasks/index.js";
import { type LoadedModel, type LoadOptions, loadAdapter, loadModel } from "./load-model.js";

/** What a pipeline is made of. */
export interface PipelineOptions extends LoadOptions {
  /** A base model by name, or one that is loaded already (and stays open when the pipeline is disposed of). */
  readonly model?: string | LoadedModel;
  /** A folder or hub id; without it the base model must have a trained head. */
  readonly adapter?: string;
  /** The program's own methods, one of which the adapter may be of. */
  readonly methods?: readonly PeftMethod[];
}

/**
 * Makes a callable for a task: `const classify = await pipeline("text-classification", { model: "minilm", adapter: "my-adapter" })`.
 * Throws as `loadModel` and `loadAdapter` do, and ConfigError for a task that has no pipeline.
 */
export async function pipeline(
  task: "text-classification",
  { model: given = "minilm", adapter, ...options }: PipelineOptions = {},
): Promise<Classifier> {
  if (task !== "text-classification") throw new ConfigError(`there is no pipeline for "${task}"`, { hint: 'use "text-classification"' });
  const model = typeof given === "string" ? await loadModel(given, options) : given;
  const adapted = adapter === undefined ? withoutAdapter(model, taskNamed(task)) : await loadAdapter(model, adapter, { ...options, task });
  const ready = await predictor(model, adapted);
  return classifier({
    ...ready,
    async dispose() {
      await ready.dispose();
      if (typeof given === "string") await model.close();
    },
  });
}
