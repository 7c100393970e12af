import type { Tensor } from "../core/tensor.js";
import { AttachError, ConfigError, FileError } from "../errors.js";
import type { Files } from "../io/files.js";
import { isRecord, readJson } from "../io/json.js";
import { openSafetensors, writeSafetensors } from "../io/safetensors.js";
import type { TensorSource } from "../io/tensor-source.js";
import { methodOfType } from "../methods/index.js";
import type { Attachment, Method } from "../methods/method.js";

/** The files of Hugging Face PEFT's format. */
export const configFile = "adapter_config.json";
export const weightsFile = "adapter_model.safetensors";

/** Fields of every adapter_config.json that do not belong to a method. */
const commonFields = ["peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"];

/** An adapter as its files say, before it meets a model. */
export interface PublishedAdapter {
  readonly origin: string;
  readonly method: Method;
  readonly config: object;
  /** PEFT's `task_type`; null where the adapter has no task. */
  readonly taskType: string | null;
  /** The base model's id as the file has it. */
  readonly base: string | null;
  readonly tensors: TensorSource;
}

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
  return {
    origin: files.origin,
    method,
    config,
    taskType: typeof json.task_type === "string" ? json.task_type : null,
    base: typeof json.base_model_name_or_path === "string" ? json.base_model_name_or_path : null,
    tensors: await openSafetensors(files, weightsFile),
  };
}

function publishedConfig(where: string, method: Method, json: Readonly<Record<string, unknown>>): object {
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

/** A parameter that an adapter must bring. */
export interface ExpectedTensor {
  readonly path: string;
  readonly shape: readonly number[];
}

/**
 * The adapter's tensors by parameter path. A parameter that the format lets old writers leave out is left out here too; keys may lack the
 * model's `prefix` (`bert`), as those of an adapter that was trained on the bare backbone do.
 * Throws AttachError that lists all tensors which are missing, of another shape, or not expected.
 */
export async function readPeftTensors(
  adapter: PublishedAdapter,
  expected: readonly ExpectedTensor[],
  plan: unknown,
  prefix: string,
): Promise<Map<string, Tensor<"float32">>> {
  const { tensors, method } = adapter;
  const faults: string[] = [];
  const used = new Set<string>();
  const found = new Map<string, string>();
  const left: string[] = [];
  for (const { path, shape } of expected) {
    const { full, bare } = keysOf(method, path, plan, prefix);
    const key = [full, bare].find((name) => tensors.tensors.has(name)) ?? full;
    const stored = tensors.tensors.get(key);
    if (stored === undefined) {
      if (method.files.optional?.(path, plan) === true) left.push(`${key}: missing, expected [${shape}]`);
      else faults.push(`${key}: missing, expected [${shape}]`);
      continue;
    }
    used.add(key);
    found.set(path, key);
    if (stored.shape.length !== shape.length || stored.shape.some((size, i) => size !== shape[i]))
      faults.push(`${key}: [${stored.shape}], expected [${shape}]`);
  }
  const anyOptional = [...found.keys()].some((path) => method.files.optional?.(path, plan) === true);
  if (anyOptional) faults.push(...left);
  // bias="all" files hold copies of the head under its wrapper's names
  const extra = [...tensors.tensors.keys()].filter((key) => !used.has(key) && !/\.(original_module|modules_to_save)\./.test(key));
  faults.push(...extra.map((key) => `${key}: [${tensors.tensors.get(key)!.shape}], not expected`));
  if (faults.length > 0) {
    const shown = faults.slice(0, 20);
    throw new AttachError(
      `the adapter ${adapter.origin} does not fit this model; ${faults.length} tensor${faults.length === 1 ? "" : "s"} differ:\n  ${shown.join("\n  ")}${faults.length > shown.length ? `\n  … and ${faults.length - shown.length} more` : ""}`,
      { hint: adapter.base === null ? "was it trained on another base model?" : `it was trained on ${adapter.base}` },
    );
  }
  const result = new Map<string, Tensor<"float32">>();
  for (const [path, key] of found) result.set(path, await tensors.readFloat32(key));
  return result;
}

/** A tensor's names with and without the model's own prefix (`bert`). */
function keysOf({ files }: Method, path: string, plan: unknown, prefix: string): { readonly full: string; readonly bare: string } {
  const full = files.key(path, plan);
  const start = `${files.prefix}${prefix}.`;
  return { full, bare: full.startsWith(start) ? `${files.prefix}${full.slice(start.length)}` : full };
}

/** What a written adapter says of its surroundings. */
export interface PeftContext {
  readonly taskType: string;
  readonly base: string;
  readonly revision: string | null;
  /** Modules whose weights are in the file in full: the task's head and what the checkpoint lacked. */
  readonly savedModules: readonly string[];
  /** The prefix of the backbone's paths (`bert`), for formats that leave it out. */
  readonly prefix: string;
}

/** The adapter's two files. Python's `PeftModel.from_pretrained` gives the same outputs from them. */
export function writePeftAdapter(
  attachment: Attachment,
  params: ReadonlyMap<string, Tensor<"float32">>,
  context: PeftContext,
): Readonly<Record<string, Uint8Array>> {
  const { method, config, plan } = attachment;
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
