import type { Tensor } from "../core/tensor.js";
import { ConfigError, FileError } from "../errors.js";
import type { Files } from "../io/files.js";
import { isRecord, readJson } from "../io/json.js";
import { openSafetensors, writeSafetensors } from "../io/safetensors.js";
import type { TensorSource } from "../io/tensor-source.js";
import { methodOfType } from "../methods/index.js";
import type { Attachment, PeftMethod } from "../methods/method.js";
import { taskOfType } from "../tasks/index.js";
import { type Fit, type FitPlace, matchTensors, missingFault, type PublishedAdapter, type WantedParam } from "./published.js";

/** The files of Hugging Face PEFT's format. */
export const configFile = "adapter_config.json";
export const weightsFile = "adapter_model.safetensors";

/** Fields of every adapter_config.json that do not belong to a method. */
const commonFields = ["peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"];

/**
 * Reads an adapter in Hugging Face PEFT's format. Unknown fields that are null, false or empty are passed over; others are refused by name,
 * since ignoring them would give wrong results. Throws FileError, ConfigError or WeightError.
 */
export async function readPeftAdapter(files: Files): Promise<PublishedAdapter> {
  const json = await readJson(files, configFile);
  if (!isRecord(json)) throw new ConfigError(`${files.origin}/${configFile} holds no JSON object`);
  if (typeof json.peft_type !== "string") throw new ConfigError(`${files.origin}/${configFile} has no peft_type`);
  const method = methodOfType(json.peft_type);
  const config = publishedConfig(`${files.origin}/${configFile}`, method, json);
  if ((await files.size(weightsFile)) === undefined) {
    throw new FileError(`${files.origin} has no ${weightsFile}`, {
      hint: "an adapter needs adapter_config.json and adapter_model.safetensors",
    });
  }
  const source = await openSafetensors(files, weightsFile);
  const taskType = typeof json.task_type === "string" ? json.task_type : null;
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
    fit: (wanted, place) => fitTensors(source, method, wanted, place),
  };
}

function publishedConfig(where: string, method: PeftMethod, json: Readonly<Record<string, unknown>>): object {
  const own: Record<string, unknown> = {};
  const foreign: string[] = [];
  for (const [key, value] of Object.entries(json)) {
    if (key in method.config.shape) own[key] = key === "modules_to_save" && Array.isArray(value) ? [...new Set(value)] : value;
    else if (!commonFields.includes(key) && !method.files.inert.includes(key) && !isEmpty(value))
      foreign.push(`${key}: ${JSON.stringify(value)}`);
  }
  if (foreign.length > 0) {
    throw new ConfigError(`${where} asks for what is not supported here:\n  ${foreign.join("\n  ")}`, {
      hint: "ignoring these fields would give wrong results, so the adapter is refused",
    });
  }
  method.files.refuse?.(json);
  const result = method.config.safeParse(own);
  if (result.success) return result.data;
  throw new ConfigError(
    `${where} does not fit:\n  ${result.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("\n  ")}`,
  );
}

function isEmpty(value: unknown): boolean {
  return value === null || value === false || value === "" || (typeof value === "object" && Object.keys(value).length === 0);
}

/** A parameter that the format lets old writers leave out may be missing, if all of those are. */
function fitTensors(source: TensorSource, method: PeftMethod, wanted: readonly WantedParam[], { plan, prefix }: FitPlace): Fit {
  const named = wanted.map((param) => {
    const { full, bare } = keysOf(method, param.path, plan, prefix);
    return { ...param, names: [full, bare] };
  });
  const optional = ({ path }: WantedParam): boolean => method.files.optional?.(path, plan) === true;
  // bias="all" files hold copies of the head under its wrapper's names
  const { places, missing, faults } = matchTensors(source.tensors, named, (name) => /\.(original_module|modules_to_save)\./.test(name));
  const anyOptional = named.some((param) => optional(param) && places.has(param.path));
  const lacking = missing.filter((param) => anyOptional || !optional(param));
  return {
    faults: [...lacking.map(missingFault), ...faults],
    async read() {
      const tensors = new Map<string, Tensor<"float32">>();
      for (const [path, name] of places) tensors.set(path, await source.readFloat32(name));
      return tensors;
    },
  };
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
  /** Modules whose weights are in the file in full: the task's head and what the checkpoint lacked. */
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
  const extra = "modules_to_save" in config ? ((config.modules_to_save as readonly string[] | null) ?? []) : [];
  const json: Record<string, unknown> = {
    ...method.files.publish(config, plan),
    peft_type: method.files.peft_type,
    task_type: context.taskType,
    base_model_name_or_path: context.base,
    revision: context.revision,
    inference_mode: true,
    modules_to_save: [...new Set([...context.savedModules, ...extra])],
  };
  const sorted = Object.keys(json)
    .sort()
    .filter((key) => json[key] !== null || key === "revision")
    .map((key) => [key, json[key]] as const);
  return {
    [configFile]: new TextEncoder().encode(`${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`),
    [weightsFile]: writeSafetensors([...params].map(([path, tensor]) => [nameOf(path), tensor] as const)),
  };
}
