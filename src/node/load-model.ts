import type { Files } from "../io/files.js";
import type { Progress } from "../io/hub.js";
import { resolveAdapter, resolveModel } from "../io/resolve-model.js";
import type { PeftMethod } from "../methods/method.js";
import { type Adapter, loadAdapter as loadAdapterFiles } from "../programs/adapter.js";
import type { BaseDtype } from "../programs/base-dtype.js";
import { type BaseModel, openBaseModel } from "../programs/base-model.js";
import { nodeRuntime } from "../runtime/node.js";
import type { Runtime } from "../runtime/session.js";

/** How a model is loaded. */
export interface LoadOptions {
  /** Threads that a run may use; all of the machine's cores by default. */
  readonly threads?: number | undefined;
  /** A runtime to share; the model gets one of its own by default, which `close` ends. */
  readonly runtime?: Runtime | undefined;
  /** Called with what is worth telling: where the model comes from, and how far a download is. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** How programs store the frozen matrices of linear layers; float32 by default. Training has an option of its own. */
  readonly baseDtype?: BaseDtype | undefined;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** A base model on this machine. */
export interface LoadedModel extends BaseModel {
  /** Where it came from, in words. */
  readonly source: string;
  /** Ends the runtime with all of the model's sessions. */
  close(): Promise<void>;
}

/**
 * Loads a base model: a folder, a `.gguf` file, a hub id `org/name[@revision]`, or a catalogue name such as `minilm`. Downloads what is not cached.
 * Throws FileError, ModelError, ConfigError, WeightError or NetworkError.
 */
export async function loadModel(name: string, options: LoadOptions = {}): Promise<LoadedModel> {
  const { env = process.env, onProgress, signal, threads } = options;
  const { files, id, revision, describe } = await resolveModel(name, {
    env,
    ...(onProgress === undefined ? {} : { onProgress }),
    ...(signal === undefined ? {} : { signal }),
  });
  const runtime = options.runtime ?? nodeRuntime(threads === undefined ? {} : { threads });
  try {
    const model = await openBaseModel(files, {
      id,
      revision,
      runtime,
      ...(options.baseDtype === undefined ? {} : { baseDtype: options.baseDtype }),
    });
    return { ...model, source: describe, close: () => runtime.close() };
  } catch (error) {
    await runtime.close();
    throw error;
  }
}

/** An adapter's files: a folder, or a hub id of which they are fetched. Throws FileError, ModelError or NetworkError. */
export async function adapterPlace(name: string, { env = process.env, onProgress, signal }: LoadOptions = {}): Promise<Files> {
  const { files } = await resolveAdapter(name, {
    env,
    ...(onProgress === undefined ? {} : { onProgress }),
    ...(signal === undefined ? {} : { signal }),
  });
  return files;
}

/** Loads an adapter for a model: a folder or a hub id. Throws as `loadModel` does, and AttachError when it does not fit the model. */
export async function loadAdapter(
  model: BaseModel,
  name: string,
  options: LoadOptions & { readonly task?: string | undefined; readonly methods?: readonly PeftMethod[] | undefined } = {},
): Promise<Adapter> {
  return loadAdapterFiles(model, await adapterPlace(name, options), options.task, options.methods);
}
