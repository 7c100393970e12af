import { f32, type Tensor } from "../core/tensor.js";
import { ConfigError } from "../errors.js";
import { type GgufArchitecture, ggufArchitectures, ggufName } from "../io/gguf-architectures.js";
import { toGgufRows } from "../io/gguf-rows.js";
import { isRecord } from "../io/json.js";
import { type WrittenField, writeGguf } from "../io/write-gguf.js";
import { type LoraConfig, type LoraPlan, lora } from "../methods/lora.js";
import { isResidual } from "../methods/lora-init.js";
import type { Attachment } from "../methods/method.js";
import type { Adapter } from "./adapter.js";
import type { BaseModel } from "./base-model.js";
import { mergeObstacle } from "./merge.js";

/** A LoRA adapter in one file, as llama.cpp reads it. */
export interface GgufAdapter {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Adapted layers by GGUF's names. */
  readonly layers: readonly string[];
  /** llama.cpp's name of the architecture. */
  readonly architecture: string;
}

/**
 * A LoRA adapter in the layout of llama.cpp's convert_lora_to_gguf.py: `<tensor>.lora_a` [r, in] and `.lora_b` [out, r] for each adapted tensor
 * of the base, whose rows llama.cpp reorders in Llama's queries and keys, and one `adapter.lora.alpha`; the update is B·A·alpha/r. A layer
 * with another scaling (rsLoRA, alpha_pattern, rank_pattern) has the rest of it in its B. Throws ConfigError that lists all that the layout cannot express.
 */
export function ggufAdapter(model: BaseModel, { attachment, params, head }: Adapter): GgufAdapter {
  const type = isRecord(model.json) ? String(model.json.model_type) : "";
  const found = Object.entries(ggufArchitectures).find(
    ([, each]) => each.modelType === type || (type === "mistral" && each.modelType === "llama"),
  );
  const faults: string[] = [];
  if (found === undefined) faults.push(`models of type ${type}: expected ${Object.keys(ggufArchitectures).join(", ")}`);
  if (head.task.name !== "text-generation") faults.push(`the task ${head.task.name}: llama.cpp's adapters change a language model only`);
  if (!isLora(attachment)) {
    faults.push(`the method ${attachment.method.name}: expected lora`);
    const obstacle = mergeObstacle(attachment.method);
    throw refused(faults, obstacle === undefined ? merging : `llama.cpp has no place for it: ${obstacle}`);
  }
  const { config, plan } = attachment;
  faults.push(...loraFaults(config));
  const [name, architecture] = found ?? ["", ggufArchitectures.llama!];
  const tensors = new Map<string, Tensor<"float32">>();
  const layers: string[] = [];
  for (const path of plan.tables.keys()) faults.push(`${path}: an embedding table, for which this converter has no place`);
  for (const [path, { r, scaling }] of plan.targets) {
    const layer = ggufName(architecture, `${path}.weight`);
    if (layer?.name === "output.weight" && isTied(model))
      faults.push(`${path}: the model's output is its embedding, which has no tensor of its own`);
    if (layer === undefined) faults.push(`${path}: a ${name} file has no such tensor`);
    const [A, B] = [params.get(`${path}.lora_A.weight`), params.get(`${path}.lora_B.weight`)];
    if (layer === undefined || A === undefined || B === undefined) continue;
    layers.push(layer.name);
    tensors.set(`${layer.name}.lora_a`, A);
    tensors.set(`${layer.name}.lora_b`, reordered(scaled(B, (scaling * r) / config.lora_alpha), headsOf(model, architecture, layer.heads)));
  }
  if (faults.length > 0) throw refused(faults);
  const metadata: Readonly<Record<string, WrittenField>> = {
    "general.type": "adapter",
    "general.architecture": name,
    "general.name": `LoRA for ${model.id}`,
    "adapter.type": "lora",
    "adapter.lora.alpha": { f32: config.lora_alpha },
  };
  return { bytes: writeGguf(metadata, tensors), layers, architecture: name };
}

function isTied({ config }: BaseModel): boolean {
  return isRecord(config) && config.tie_word_embeddings === true;
}

function isLora(attachment: Attachment): attachment is Attachment & { readonly config: LoraConfig; readonly plan: LoraPlan } {
  return attachment.method.name === lora.name;
}

/** What of a LoRA's config has no place in the layout. */
function loraFaults(c: LoraConfig): readonly string[] {
  return [
    ...(c.use_dora ? ["use_dora: DoRA's magnitudes"] : []),
    ...(c.lora_bias ? ["lora_bias: biases of the updates"] : []),
    ...(c.bias === "none" ? [] : [`bias "${c.bias}": biases trained in place`]),
    ...((c.modules_to_save ?? []).length > 0 ? [`modules_to_save: ${c.modules_to_save!.join(", ")}, trained in full`] : []),
    ...(isResidual(c.init_lora_weights)
      ? [`init_lora_weights "${String(c.init_lora_weights)}": a part taken out of the base; load its written files instead`]
      : []),
  ];
}

const merging = "merge the adapter into its base (peft merge) and convert the checkpoint with llama.cpp";

function refused(faults: readonly string[], hint = merging): ConfigError {
  return new ConfigError(`llama.cpp's adapter file cannot express:\n  ${faults.join("\n  ")}`, { hint });
}

/** Heads of a reordered tensor by the model's config; undefined for others. */
function headsOf(
  { config }: BaseModel,
  { fields }: GgufArchitecture,
  field: "head_count" | "head_count_kv" | undefined,
): number | undefined {
  if (field === undefined || !isRecord(config)) return undefined;
  return Number(config[fields[field]] ?? config[fields.head_count]);
}

function reordered({ data, shape }: Tensor<"float32">, heads: number | undefined): Tensor<"float32"> {
  return f32(heads === undefined ? data : toGgufRows(data, heads, shape[0]!), shape);
}

function scaled({ data, shape }: Tensor<"float32">, factor: number): Tensor<"float32"> {
  return f32(Math.abs(factor - 1) < 1e-12 ? data : data.map((value) => value * factor), shape);
}
