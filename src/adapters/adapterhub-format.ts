import { misfits } from "../core/options.js";
import type { Tensor } from "../core/tensor.js";
import { ConfigError } from "../errors.js";
import type { Files } from "../io/files.js";
import { isRecord, readJson } from "../io/json.js";
import { openTensors } from "../io/open-tensors.js";
import type { StoredTensor, TensorSource } from "../io/tensor-source.js";
import { writeTensors } from "../io/write-tensors.js";
import { bottleneck } from "../methods/bottleneck.js";
import { bottleneckPresets } from "../methods/bottleneck-config.js";
import type { Attachment } from "../methods/method.js";
import { absentHead, isHeadParam, readHubHead } from "./adapterhub-head.js";
import { type HubModel, hubJson, hubVersion, notUndoingClass, undoingModel } from "./adapterhub-json.js";
import { type Fit, matchTensors, missingFault, type NamedParam, type PublishedAdapter, readPlaces, type WantedParam } from "./published.js";

/** The weights of an adapter in AdapterHub's format: the first that is there is read, all are written, since Python asks for `.bin` by default. */
const hubWeightsFiles = ["adapter.safetensors", "pytorch_adapter.bin"];
const configFile = "adapter_config.json";

/** Whether an adapter_config.json is one of AdapterHub's. */
export function isHubConfig(json: unknown): boolean {
  return isRecord(json) && json.peft_type === undefined && (isRecord(json.config) || json.model_type !== undefined);
}

/**
 * Reads an adapter in AdapterHub's format (Python's `adapters`), with its head where there is one; `member` is the name of one that a
 * composition holds, whose head is not used. Files without `version` are older and
 * mean gelu's tanh form by "gelu", as there. Throws FileError, ConfigError or WeightError.
 */
export async function readHubAdapter(files: Files, member?: string): Promise<PublishedAdapter> {
  const where = `${files.origin}/${configFile}`;
  const json = await readJson(files, configFile);
  if (!isRecord(json)) throw new ConfigError(`${where} holds no JSON object`);
  const published = fieldsOf(where, json.config);
  const { architecture } = published;
  if (architecture !== undefined && architecture !== null) {
    throw new ConfigError(`${where}: architecture "${String(architecture)}" is not supported in AdapterHub's format`, {
      hint: "adapter layers are; for LoRA, prefix and prompt tuning use Hugging Face PEFT's format",
    });
  }
  const own = typeof json.name === "string" ? json.name : member;
  if (own === undefined) throw new ConfigError(`${where} has no "name"`, { hint: "the tensors' names have the adapter's name in them" });
  const source = await openTensors(files, hubWeightsFiles);
  const head = member === undefined ? await readHubHead(files) : absentHead;
  const config = hubConfig(where, withInvertible(published, json.type, source), json.version === undefined);
  return {
    origin: files.origin,
    method: bottleneck,
    config,
    notUndoneIn: isInvertible(config) ? notUndoingClass(json) : undefined,
    base: typeof json.model_name === "string" ? json.model_name : null,
    head: head.published,
    children: [],
    tensors: new Map([...source.tensors, ...(head.tensors?.tensors ?? [])]),
    fit(wanted, { prefix }) {
      const adapter = fitHubTensors(
        source,
        wanted.filter(({ path }) => !isHeadParam(path)),
        (path) => hubNames(path, own, prefix),
      );
      return bothFits(
        adapter,
        head.fit(
          wanted.filter(({ path }) => isHeadParam(path)),
          prefix,
        ),
      );
    },
  };
}

function isInvertible(config: object): boolean {
  return "inv_adapter" in config && config.inv_adapter !== null;
}

/** The fields of "config", which may also be a preset's name, or null for the usual one. */
function fieldsOf(where: string, config: unknown): Readonly<Record<string, unknown>> {
  if (isRecord(config)) return config;
  const presets: Readonly<Record<string, object>> = bottleneckPresets;
  const preset =
    config === null ? bottleneckPresets.seq_bn : typeof config === "string" && Object.hasOwn(presets, config) ? presets[config] : undefined;
  if (preset !== undefined) return bottleneck.config.parse(preset);
  if (config === undefined) throw new ConfigError(`${where} has no "config" with an adapter's fields`);
  throw new ConfigError(`${where}: config ${JSON.stringify(config)} is no preset of adapter layers`, {
    hint: `presets: ${Object.keys(presets).join(", ")}`,
  });
}

/**
 * Invertible adapters as the first files have them: in a field of their own, and named but not there in those of type "text_task"
 * (adapters/loading.py, AdapterLoader._fix_legacy_config).
 */
function withInvertible(
  fields: Readonly<Record<string, unknown>>,
  type: unknown,
  { tensors }: TensorSource,
): Readonly<Record<string, unknown>> {
  const { invertible_adapter: old, ...others } = fields;
  const named = isRecord(old) ? { ...others, inv_adapter: old.block_type, inv_adapter_reduction_factor: old.reduction_factor } : others;
  const unused = type === "text_task" && ![...tensors.keys()].some((name) => name.includes("invertible_"));
  return unused ? { ...named, inv_adapter: null, inv_adapter_reduction_factor: null } : named;
}

/** The config's fields, with those that the file leaves out as the Python library has them. Throws ConfigError that lists what does not fit. */
function hubConfig(where: string, published: Readonly<Record<string, unknown>>, ancient: boolean): object {
  const { files, config } = bottleneck;
  if (!("library" in files)) throw new ConfigError("adapter layers have lost their file format");
  const missing = files.required.filter((key) => !(key in published));
  if (missing.length > 0) throw new ConfigError(`${where}: config lacks ${missing.join(", ")}`);
  const known = Object.fromEntries(Object.entries(published).filter(([key]) => key in config.shape));
  const foreign = Object.entries(published).filter(
    ([key, value]) => !(key in config.shape) && !harmless.includes(key) && value !== null && value !== false,
  );
  const result = config.safeParse({
    ...files.absent,
    ...known,
    non_linearity: activationOf(published.non_linearity, ancient),
    leave_out: published.leave_out ?? [],
  });
  const faults = [
    ...foreign.map(([key, value]) => `${key}: ${JSON.stringify(value)} is not supported here`),
    ...(result.success ? [] : misfits(result.error)),
  ];
  if (!result.success || faults.length > 0) throw new ConfigError(`${where} does not fit:\n  ${faults.join("\n  ")}`);
  return result.data;
}

/** Fields that older writers added and that change nothing. */
const harmless = ["architecture", "new_attention_norm", "original_ln_attention"];

function activationOf(name: unknown, ancient: boolean): unknown {
  if (!ancient) return name;
  return name === "gelu" ? "gelu_new" : name === "gelu_orig" ? "gelu" : name;
}

/**
 * Tensors of adapters and fusions by their names; those that stand twice in files, as the norm inside `adapter_down` does, are passed over, and
 * those that are `unused`.
 */
export function fitHubTensors(
  source: TensorSource,
  wanted: readonly WantedParam[],
  namesOf: (path: string) => readonly string[],
  unused: (name: string, wanted: ReadonlySet<string>) => boolean = () => false,
): Fit {
  const stored = new Map<string, StoredTensor>();
  const original = new Map<string, string>();
  for (const [name, tensor] of source.tensors) {
    const today = todaysName(name);
    stored.set(today, tensor);
    original.set(today, name);
  }
  const named: NamedParam[] = wanted.map((param) => ({ ...param, names: namesOf(param.path) }));
  const aliases = new Set(named.flatMap(({ names }) => names));
  const { places, missing, faults } = matchTensors(stored, named, (name) => aliases.has(name) || unused(name, aliases));
  return {
    faults: [...missing.map(missingFault), ...faults],
    read: () =>
      readPlaces(
        source,
        [...places].map(([path, name]) => [path, original.get(name)!]),
      ),
  };
}

/** Two fits of different parameters as one. */
export function bothFits(a: Fit, b: Fit): Fit {
  return { faults: [...a.faults, ...b.faults], read: async () => new Map([...(await a.read()), ...(await b.read())]) };
}

/** Names of old files as they are now (adapters/loading.py, AdapterLoader.rename_func). */
function todaysName(name: string): string {
  return name
    .replace(/\b(attention|layer)_text_(task|lang)_adapters\./, "adapters.")
    .replace(/\binvertible_lang_adapters\./, "invertible_adapters.");
}

/**
 * A parameter's names in AdapterHub's files: the adapter's name goes into the path, and the backbone's prefix may be missing. A new norm in
 * front of the down projection stands there under two names.
 */
export function hubNames(path: string, name: string, prefix: string): readonly string[] {
  const full = path.replace(/\b(adapters|invertible_adapters|shared_parameters|adapter_fusion_layer)\./, `$1.${name}.`);
  const both = [full, full.replace(".adapter_norm_before.", ".adapter_down.0.")];
  return [...new Set(both)].flatMap((each) => (each.startsWith(`${prefix}.`) ? [each, each.slice(prefix.length + 1)] : [each]));
}

/** The adapter's config, and its weights in both formats. Python's `load_adapter(dir)` gives the same outputs from them. */
export function writeHubAdapter(
  { method, config }: Attachment,
  params: ReadonlyMap<string, Tensor<"float32">>,
  name: string,
  model: HubModel,
  prefix: string,
): Readonly<Record<string, Uint8Array>> {
  if (!("library" in method.files)) throw new ConfigError(`${method.name} has no files in AdapterHub's format`);
  return {
    [configFile]: hubJson({
      config: method.files.publish(config),
      ...(isInvertible(config) ? undoingModel(model) : model),
      name,
      version: hubVersion,
    }),
    ...hubTensorFiles(hubWeightsFiles, params, name, prefix),
  };
}

/** Parameters of an adapter or fusion, the same in each of some files. */
export function hubTensorFiles(
  files: readonly string[],
  params: ReadonlyMap<string, Tensor<"float32">>,
  name: string,
  prefix: string,
): Readonly<Record<string, Uint8Array>> {
  const tensors = [...params].flatMap(([path, tensor]) => {
    const [first, ...others] = hubNames(path, name, prefix).filter((each) => each.startsWith(`${prefix}.`));
    return [first!, ...others].map((each) => [each, tensor] as const);
  });
  return writeTensors(files, tensors);
}
