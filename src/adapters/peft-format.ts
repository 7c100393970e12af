import { misfits } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import { ConfigError } from "../errors.js";
import type { Files } from "../io/files.js";
import { isRecord, readJson } from "../io/json.js";
import { openTensors } from "../io/open-tensors.js";
import { writeSafetensors } from "../io/safetensors.js";
import type { TensorSource } from "../io/tensor-source.js";
import { methodOfType } from "../methods/index.js";
import type { Attachment, PeftMethod } from "../methods/method.js";
import { taskOfType } from "../tasks/index.js";
import { type Fit, type FitPlace, matchTensors, missingFault, type PublishedAdapter, readPlaces, type WantedParam } from "./published.js";

/** The files of Hugging Face PEFT's format. */
export const configFile = "adapter_config.json";
export const weightsFile = "adapter_model.safetensors";
/** The weights, safetensors first. */
const peftWeightsFiles = [weightsFile, "adapter_model.bin"];

/** PEFT's `task_type` for models that it has no wrapper for, such as masked language models: the caller says what the task is. */
const noTask = "FEATURE_EXTRACTION";

/** Fields of every adapter_config.json that do not belong to a method. Where a method has no modules_to_save, its file's are the head. */
const commonFields = [
  "peft_type",
  "task_type",
  "auto_mapping",
  "peft_version",
  "base_model_name_or_path",
  "revision",
  "inference_mode",
  "modules_to_save",
];

/**
 * Reads an adapter in Hugging Face PEFT's format; `own` are a program's own methods. Unknown fields that are null, false or empty are passed over; others are refused by name,
 * since ignoring them would give wrong results. Throws FileError, ConfigError or WeightError.
 */
export async function readPeftAdapter(files: Files, own: readonly PeftMethod[] = []): Promise<PublishedAdapter> {
  const json = await readJson(files, configFile);
  if (!isRecord(json)) throw new ConfigError(`${files.origin}/${configFile} holds no JSON object`);
  if (typeof json.peft_type !== "string") throw new ConfigError(`${files.origin}/${configFile} has no peft_type`);
  const method = methodOfType(json.peft_type, own);
  const config = publishedConfig(`${files.origin}/${configFile}`, method, json);
  const source = await openTensors(files, peftWeightsFiles);
  const taskType = typeof json.task_type === "string" && json.task_type !== noTask ? json.task_type : null;
  return {
    origin: files.origin,
    method,
    config,
    base: typeof json.base_model_name_or_path === "string" ? json.base_model_name_or_path : null,
    head: {
      task: taskType === null ? null : taskOfType(taskType).name,
      labels: undefined,
      outputs: (output) => source.tensors.get(`${method.files.prefix}${output}`)?.shape[0],
      structure: undefined,
    },
    children: [],
    tensors: source.tensors,
    fit: (wanted, place) => fitTensors(source, method, config, wanted, place),
  };
}

function publishedConfig(where: string, method: PeftMethod, json: Readonly<Record<string, unknown>>): object {
  const own: Record<string, unknown> = {};
  const foreign: string[] = [];
  for (const [key, value] of Object.entries(method.files.read?.(json) ?? json)) {
    if (key in method.config.shape) own[key] = key === "modules_to_save" && Array.isArray(value) ? [...new Set(value)] : value;
    else if (!commonFields.includes(key) && !method.files.inert.includes(key) && !isEmpty(value))
      foreign.push(`${key}: ${JSON.stringify(value)}`);
  }
  if (foreign.length > 0) {
    throw new ConfigError(`${where} asks for what is not supported here:\n  ${foreign.join("\n  ")}`, {
      hint: "ignoring these fields would give wrong results, so the adapter is refused",
    });
  }
  const result = method.config.safeParse(own);
  if (result.success) return result.data;
  throw new ConfigError(`${where} does not fit:\n  ${misfits(result.error).join("\n  ")}`);
}

function isEmpty(value: unknown): boolean {
  return value === null || value === false || value === "" || (typeof value === "object" && Object.keys(value).length === 0);
}

/** A parameter that the format lets old writers leave out may be missing, if all of those are. */
function fitTensors(source: TensorSource, method: PeftMethod, config: object, wanted: readonly WantedParam[], place: FitPlace): Fit {
  const { plan, prefix } = place;
  const copies = [...source.tensors].flatMap(([name, { shape }]) => {
    const path = place.baseWeight(copiedPath(method, name), shape);
    return path === undefined ? [] : [[name, path] as const];
  });
  const names = ({ path }: WantedParam): readonly string[] => {
    const all = [path, ...place.aliases(path)].flatMap((each) => Object.values(keysOf(method, each, plan, prefix)));
    if (all.some((name) => source.tensors.has(name))) return all;
    return [...all, ...copies.flatMap(([name, copied]) => (copied === path ? [name] : []))];
  };
  const omits = ({ path }: WantedParam): boolean => method.files.omits?.(path, plan) === true;
  const known = new Set(wanted.flatMap(names));
  const named = wanted.filter((param) => !omits(param)).map((param) => ({ ...param, names: names(param) }));
  const optional = ({ path }: WantedParam): boolean => method.files.optional?.(path, plan) === true;
  // bias="all" files hold copies of the head under its wrapper's names
  const { places, missing, faults } = matchTensors(
    source.tensors,
    named,
    (name) => known.has(name) || copies.some(([copy]) => copy === name) || /\.(original_module|modules_to_save)\./.test(name),
  );
  const anyOptional = named.some((param) => optional(param) && places.has(param.path));
  const lacking = missing.filter((param) => anyOptional || !optional(param));
  const taken = copies.filter(([name, path]) => !known.has(name) && method.files.passesOver?.(path, plan, config) !== true);
  return {
    faults: [...lacking.map(missingFault), ...faults],
    copies: new Map(taken.map(([name, path]) => [path, () => source.readFloat32(name)])),
    read: () => readPlaces(source, places),
  };
}

/** The path of the base's weight that a tensor of this name stands for: PEFT's `save_embedding_layers`, on its own where an embedding is adapted. */
function copiedPath({ files }: PeftMethod, name: string): string {
  return (name.startsWith(files.prefix) ? name.slice(files.prefix.length) : name).replace(/\.base_layer\./, ".");
}

/** A tensor's names with and without the model's own prefix (`bert`). */
function keysOf({ files }: PeftMethod, path: string, plan: unknown, prefix: string): { readonly full: string; readonly bare: string } {
  const full = files.key(path, plan);
  const start = `${files.prefix}${prefix}.`;
  return { full, bare: full.startsWith(start) ? `${files.prefix}${full.slice(start.length)}` : full };
}

/** What a written adapter says of its surroundings. */
export interface PeftContext {
  readonly taskType: string | null;
  readonly base: string;
  readonly revision: string | null;
  /** Modules whose weights are in the file in full: the task's head, what the checkpoint lacked, and modules_to_save. */
  readonly savedModules: readonly string[];
  /** The prefix of the backbone's paths (`bert`), for formats that leave it out. */
  readonly prefix: string;
}

/** The adapter's two files. Python's `PeftModel.from_pretrained` gives the same outputs from them. */
export function writePeftAdapter(
  method: PeftMethod,
  { config, plan }: Attachment,
  params: ReadonlyMap<string, Tensor<"float32">>,
  context: PeftContext,
): Readonly<Record<string, Uint8Array>> {
  const nameOf = (path: string): string => {
    const { full, bare } = keysOf(method, path, plan, context.prefix);
    return method.files.bare === true ? bare : full;
  };
  const json: Record<string, unknown> = {
    ...method.files.publish(config, plan, context.base),
    peft_type: method.files.peft_type,
    task_type: context.taskType,
    base_model_name_or_path: context.base,
    revision: context.revision,
    inference_mode: true,
    modules_to_save: [...new Set(context.savedModules)],
  };
  const sorted = Object.keys(json)
    .sort()
    .filter((key) => json[key] !== null || key === "revision")
    .map((key) => [key, json[key]] as const);
  return {
    [configFile]: new TextEncoder().encode(`${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`),
    [weightsFile]: writeSafetensors(
      [...params].flatMap(([path, tensor]) => (method.files.omits?.(path, plan) === true ? [] : [[nameOf(path), tensor] as const])),
    ),
  };
}
