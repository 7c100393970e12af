import { transpose } from "../core/matrix.js";
import { f32 } from "../core/tensor.js";
import { FileError, ModelError } from "../errors.js";
import type { Files } from "./files.js";
import { type GgufFile, openGguf } from "./gguf.js";
import { type GgufArchitecture, type GgufField, ggufArchitectures, ggufPath } from "./gguf-architectures.js";
import { type GgufMetadata, ggufMetadata } from "./gguf-metadata.js";
import { ggufRope } from "./gguf-rope.js";
import { fromGgufRows } from "./gguf-rows.js";
import { ggufTokenizer } from "./gguf-tokenizer.js";
import { quote } from "./json.js";
import { byteRange } from "./memory-files.js";
import { throwProblems } from "./safetensors.js";
import { missingTensor, type StoredTensor, type TensorSource } from "./tensor-source.js";

/** The name under which a GGUF file's weights stand among a model's files. */
export const ggufWeights = "model.gguf";

/**
 * A GGUF file as the folder of a Hugging Face model: config.json, tokenizer.json and tokenizer_config.json made from its metadata, the weights
 * as `model.gguf`. Throws FileError, WeightError for a damaged file, ModelError for architectures and tokenizers that are not read.
 */
export async function ggufModel(files: Files, name: string): Promise<Files> {
  const file = await openGguf(files, name);
  const where = `${files.origin}/${name}`;
  const known = describeGguf(file, where);
  const tokenizer = ggufTokenizer(known.metadata, known.name, where);
  const bytes = (json: unknown): Uint8Array => new TextEncoder().encode(`${JSON.stringify(json, null, 2)}\n`);
  const made = new Map([
    ["config.json", bytes(await configOf(file, known, where))],
    ["tokenizer.json", bytes(tokenizer.json)],
    ["tokenizer_config.json", bytes(tokenizer.config)],
  ]);
  return {
    origin: where,
    size: async (each) => made.get(each)?.byteLength ?? (each === ggufWeights ? files.size(name) : undefined),
    async read(each, start = 0, end) {
      if (each === ggufWeights) return files.read(name, start, end);
      const content = made.get(each);
      if (content === undefined) throw new FileError(`${where} gives no ${each}, only ${[...made.keys(), ggufWeights].join(", ")}`);
      return new Uint8Array(content.subarray(...byteRange(`${where}/${each}`, content.byteLength, start, end)));
    },
    ...(files.sha256 === undefined
      ? {}
      : {
          sha256: (each: string) =>
            each === ggufWeights ? files.sha256!(name) : Promise.reject(new FileError(`${where}: ${each} is made, not stored`)),
        }),
  };
}

/** A GGUF file's weights under Hugging Face's paths, in its row order. Throws WeightError that lists the tensors that are not known. */
export async function openGgufWeights(files: Files, name: string): Promise<TensorSource> {
  const file = await openGguf(files, name);
  const where = `${files.origin}/${name}`;
  const { architecture, metadata, name: architectureName } = describeGguf(file, where);
  const problems: string[] = [];
  const names = new Map<string, { readonly from: string; readonly transposed: boolean; readonly heads: number | undefined }>();
  const tensors = new Map<string, StoredTensor>();
  for (const [from, stored] of file.tensors) {
    if (isDerived(from)) continue;
    const known = ggufPath(architecture, from);
    if (known === undefined) {
      problems.push(`tensor ${quote(from)} is not one of a ${architectureName} model`);
      continue;
    }
    const heads =
      known.heads &&
      (metadata.number(`${architectureName}.attention.${known.heads}`) ?? metadata.number(`${architectureName}.attention.head_count`));
    if (heads !== undefined && (stored.shape[0] ?? 0) % (2 * heads) !== 0)
      problems.push(`tensor ${quote(from)}: ${stored.shape[0]} rows for ${heads} heads`);
    names.set(known.path, { from, transposed: known.transposed, heads });
    tensors.set(known.path, known.transposed ? { ...stored, shape: [...stored.shape].reverse() } : stored);
  }
  throwProblems(where, problems);
  return {
    tensors,
    async readFloat32(path) {
      const known = names.get(path);
      if (known === undefined) throw missingTensor(where, path, tensors);
      const stored = await file.readFloat32(known.from);
      const { shape, data } = stored;
      if (known.heads !== undefined) return f32(fromGgufRows(data, known.heads, shape[0]!), shape);
      return known.transposed ? transpose(stored) : stored;
    },
  };
}

/** Tensors that follow from the config. */
function isDerived(name: string): boolean {
  return name === "rope_freqs.weight";
}

interface Described {
  readonly name: string;
  readonly architecture: GgufArchitecture;
  readonly metadata: GgufMetadata;
}

function describeGguf(file: GgufFile, where: string): Described {
  const metadata = ggufMetadata(file.metadata, where);
  const type = metadata.text("general.type") ?? "model";
  if (type !== "model") {
    throw new ModelError(`${where} is not a model, but of type "${type}"`, {
      hint: type === "adapter" ? "it is an adapter for llama.cpp" : undefined,
    });
  }
  const name = metadata.text("general.architecture") ?? "(none)";
  const architecture = Object.hasOwn(ggufArchitectures, name) ? ggufArchitectures[name] : undefined;
  if (architecture !== undefined) return { name, architecture, metadata };
  throw new ModelError(`${where}: the architecture "${name}" is not read`, {
    hint: `expected one of ${Object.keys(ggufArchitectures).join(", ")}`,
  });
}

/** config.json, as far as metadata and tensors tell it. Throws ModelError that lists the fields that are missing. */
async function configOf(file: GgufFile, { name, architecture, metadata }: Described, where: string): Promise<unknown> {
  const keys: Readonly<Record<GgufField, string>> = {
    context_length: "context_length",
    block_count: "block_count",
    embedding_length: "embedding_length",
    feed_forward_length: "feed_forward_length",
    head_count: "attention.head_count",
    head_count_kv: "attention.head_count_kv",
    epsilon: architecture.rotary ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon",
  };
  const wanted = (Object.keys(keys) as GgufField[]).filter((field) => architecture.fields[field] !== "");
  const found = new Map(wanted.map((field) => [field, metadata.number(`${name}.${keys[field]}`)]));
  if (found.get("head_count_kv") === undefined && found.has("head_count_kv")) found.set("head_count_kv", found.get("head_count"));
  const missing = wanted.filter((field) => found.get(field) === undefined).map((field) => `${name}.${keys[field]}`);
  const vocabSize = file.tensors.get("token_embd.weight")?.shape[0];
  if (vocabSize === undefined) missing.push("the tensor token_embd.weight");
  if (missing.length > 0) throw new ModelError(`${where} lacks ${missing.join(", ")}`);

  const token = (field: string, key: string): Record<string, number> => {
    const id = metadata.number(`tokenizer.ggml.${key}_token_id`);
    return id === undefined ? {} : { [field]: id };
  };
  return {
    model_type: architecture.modelType,
    architectures: [architecture.className],
    dtype: "float32",
    vocab_size: vocabSize,
    ...Object.fromEntries(wanted.map((field) => [architecture.fields[field], found.get(field)])),
    ...architecture.config,
    ...(architecture.biases === undefined ? {} : { attention_bias: file.tensors.has(`blk.0.${architecture.biases}`) }),
    ...(architecture.rotary ? await rotaryFields(file, { name, architecture, metadata }, where) : {}),
    tie_word_embeddings: !file.tensors.has("output.weight"),
    ...token("bos_token_id", "bos"),
    ...token("eos_token_id", "eos"),
    ...token("pad_token_id", "padding"),
  };
}

async function rotaryFields(file: GgufFile, { name, metadata }: Described, where: string): Promise<Readonly<Record<string, unknown>>> {
  const turned = metadata.number(`${name}.rope.dimension_count`);
  const hidden = metadata.number(`${name}.embedding_length`)!;
  const headDim = metadata.number(`${name}.attention.key_length`) ?? turned ?? hidden / metadata.number(`${name}.attention.head_count`)!;
  if (turned !== undefined && turned !== headDim) {
    throw new ModelError(`${where}: only ${turned} of ${headDim} numbers of each head have rotary positions, which is not supported`);
  }
  const divisors = file.tensors.has("rope_freqs.weight") ? (await file.readFloat32("rope_freqs.weight")).data : undefined;
  return { head_dim: headDim, rope_parameters: ggufRope(metadata, name, headDim, divisors, where) };
}
