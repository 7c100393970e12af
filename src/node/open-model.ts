import { ModelError, NetworkError } from "../errors.js";
import { catalogue } from "../io/catalogue.js";
import { type ResolvedModel, type ResolveOptions, resolveAdapter, resolveModel } from "../io/resolve-model.js";
import { type BaseModel, openBaseModel } from "../programs/base-model.js";
import { noRuntime } from "../programs/inspect.js";

/** A model opened to be looked at: config, tokenizer and the weights' headers, no weights. Throws as `loadModel` does. */
export async function openModel(name: string, options: ResolveOptions): Promise<BaseModel & { readonly source: string }> {
  const { files, id, revision, describe } = await resolveModel(name, options);
  return { ...(await openBaseModel(files, { id, revision, runtime: noRuntime })), source: describe };
}

/** A model or an adapter, by what the user calls it, its files on this machine. Throws as `resolveModel` and `resolveAdapter` do. */
export async function resolveEither(
  name: string,
  options: ResolveOptions,
): Promise<ResolvedModel & { readonly kind: "model" | "adapter" }> {
  if (Object.hasOwn(options.catalogue ?? catalogue, name)) return { kind: "model", ...(await resolveModel(name, options)) };
  try {
    return { kind: "model", ...(await resolveModel(name, options)) };
  } catch (error) {
    // Not a model, or not in the cache as one: it may be an adapter. If it is neither, what was said of the model stands.
    if (!(error instanceof ModelError || error instanceof NetworkError)) throw error;
    const adapter = await resolveAdapter(name, options).catch(() => undefined);
    if (adapter === undefined) throw error;
    return { kind: "adapter", ...adapter };
  }
}
