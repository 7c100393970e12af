import { readFileSync } from "node:fs";
import { batchInputs } from "../src/core/batch.js";
import { fillUniform, keyOf } from "../src/core/random.js";
import { f32, sizeOf } from "../src/core/tensor.js";
import { type Row, type RowTable, rowTable } from "../src/data/rows.js";
import type { Files } from "../src/io/files.js";
import { memoryFiles } from "../src/io/memory-files.js";
import { writeSafetensors } from "../src/io/safetensors.js";
import { ModelBuilder } from "../src/models/builder.js";
import { familyOf } from "../src/models/index.js";
import { type BaseModel, openBaseModel } from "../src/programs/base-model.js";
import type { Runtime } from "../src/runtime/session.js";
import type { CheckpointStore } from "../src/train/checkpoint.js";
import { type TrainingOptions, trainingOptions } from "../src/train/options.js";

/** What the tiny models of Llama's kind have in common: grouped queries, and embeddings that serve as the output matrix. */
const llamaConfig = {
  vocab_size: 311,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 64,
  attention_dropout: 0.1,
  tie_word_embeddings: true,
  initializer_range: 0.2,
} as const;

/** config.json of a tiny model of each family, and the folder of src/data/fixtures/golden with its tokenizer. A new family adds an entry. */
export const tinyFamilies = {
  bert: {
    tokenizer: "bert",
    config: {
      model_type: "bert",
      vocab_size: 282,
      hidden_size: 16,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      intermediate_size: 24,
      max_position_embeddings: 32,
      type_vocab_size: 2,
      hidden_act: "gelu",
      initializer_range: 0.2,
    },
  },
  roberta: {
    tokenizer: "roberta",
    config: {
      model_type: "roberta",
      vocab_size: 321,
      hidden_size: 16,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      intermediate_size: 24,
      max_position_embeddings: 66,
      type_vocab_size: 1,
      pad_token_id: 1,
      hidden_act: "gelu",
      initializer_range: 0.2,
    },
  },
  distilbert: {
    tokenizer: "bert",
    config: {
      model_type: "distilbert",
      vocab_size: 282,
      dim: 16,
      n_layers: 2,
      n_heads: 2,
      hidden_dim: 24,
      max_position_embeddings: 32,
      activation: "gelu",
      initializer_range: 0.2,
    },
  },
  gpt2: {
    tokenizer: "gpt2",
    config: {
      model_type: "gpt2",
      vocab_size: 303,
      n_embd: 16,
      n_layer: 2,
      n_head: 2,
      n_positions: 64,
      initializer_range: 0.2,
    },
  },
  llama: {
    tokenizer: "llama",
    config: { model_type: "llama", ...llamaConfig, attention_bias: true },
  },
  mistral: {
    tokenizer: "llama",
    config: { model_type: "mistral", ...llamaConfig, sliding_window: 4 },
  },
  qwen2: {
    tokenizer: "llama",
    config: { model_type: "qwen2", ...llamaConfig },
  },
  qwen3: {
    tokenizer: "llama",
    config: { model_type: "qwen3", ...llamaConfig, head_dim: 6, attention_bias: true },
  },
} as const satisfies Record<string, { readonly tokenizer: string; readonly config: object }>;

/** The name of a family that has a tiny model. */
export type TinyFamily = keyof typeof tinyFamilies;

/** What a tiny model may be given. */
export interface TinyModelOptions {
  readonly family?: TinyFamily;
  /** Of the weights. */
  readonly seed?: number;
  /** Further or other fields of config.json. */
  readonly config?: object;
  /** A trained head with this many outputs; none by default. */
  readonly labels?: number;
  /** The task of that head. */
  readonly task?: "text-classification" | "fill-mask" | "text-generation";
}

/** The files of a tiny model with random weights, ready for a folder, `memoryFiles` or a web server. */
export function tinyModelFiles({
  family: name = "bert",
  seed = 1,
  config = {},
  labels,
  task = "text-classification",
}: TinyModelOptions = {}): Record<string, Uint8Array<ArrayBuffer>> {
  const tiny = tinyFamilies[name];
  const json = { ...tiny.config, hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1, ...config };
  const family = familyOf(json);
  const parsed: unknown = family.parse(json);
  const head = family.heads[task]!;
  const m = new ModelBuilder({ batch: batchInputs(true), has: () => true, headModules: head.modules, attachments: [] });
  head.build(m, family.encode(m, parsed), labels ?? 1, parsed);
  const isHead = (path: string): boolean => head.modules.some((module) => path.startsWith(`${module}.`));
  const weights = m.sites().weights.filter(({ path }) => labels !== undefined || !isHead(path));
  return {
    "config.json": jsonBytes(json),
    "tokenizer.json": goldenBytes(`${tiny.tokenizer}/tokenizer.json`),
    "tokenizer_config.json": goldenBytes(`${tiny.tokenizer}/tokenizer_config.json`),
    "model.safetensors": writeSafetensors(weights.map(({ path, shape }) => [path, f32(randomWeights(path, shape, seed), shape)] as const)),
  };
}

/** A tiny model, open in a runtime. */
export function openTinyModel(runtime: Runtime, options: TinyModelOptions = {}): Promise<BaseModel> {
  return openBaseModel(memoryFiles("tiny", tinyModelFiles(options)), { id: "tiny", runtime });
}

/** Rows of three classes that words give away, of 3 to 14 tokens; `first` skips rows, so that others come out. */
export function tinyRows(count: number, first = 0): readonly Row[] {
  const topics = [
    ["card", ["my card is new", "track the card that was sent to me", "the new card does not work", "how much is the card"]],
    ["film", ["the film was hard to find", "she makes each film in 24 hours", "his first film has many pages", "read the film files"]],
    ["hats", ["all the hats are 20 per week", "he has 35 hats and she has 48", "how many hats does he get in an hour", "add 12 hats"]],
  ] as const;
  const ends = ["", " with me", " and so on", " but it is still there", " on the day after", " if you can find it for all of them"];
  return Array.from({ length: count }, (_, i) => {
    const n = i + first;
    const [label, texts] = topics[n % 3]!;
    return { text: `${texts[Math.floor(n / 3) % 4]!}${ends[Math.floor(n / 12) % 6]!}`, label };
  });
}

/** Rows as a table that calls itself `origin`, a row a line. */
export function tableOf(rows: readonly Row[], origin = "rows.jsonl"): RowTable {
  return rowTable(
    rows,
    origin,
    rows.map((_, i) => i + 1),
  );
}

/** Training options that suit the tiny model, defaults filled in. */
export function tinyOptions(options: Partial<TrainingOptions> = {}): TrainingOptions {
  return trainingOptions.parse({ batch_size: 8, epochs: 2, learning_rate: 1e-2, ...options });
}

/** Checkpoints in memory, all of them kept. */
export function memoryStore(): CheckpointStore & { readonly saved: Map<number, Readonly<Record<string, Uint8Array>>> } {
  const saved = new Map<number, Readonly<Record<string, Uint8Array>>>();
  return {
    saved,
    async save(step, files) {
      saved.set(step, Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, bytes.slice()])));
      return `checkpoint-${step}`;
    },
    async latest() {
      const step = Math.max(...saved.keys());
      return saved.has(step) ? memoryFiles(`checkpoint-${step}`, saved.get(step)!) : undefined;
    },
  };
}

/** Runs a generator to its end: all that it yielded, and what it returned. */
export async function collect<T, R>(loop: AsyncGenerator<T, R>): Promise<{ readonly events: readonly T[]; readonly result: R }> {
  const events: T[] = [];
  for (;;) {
    const { value, done } = await loop.next();
    if (done === true) return { events, result: value };
    events.push(value);
  }
}

/** Files of which some are replaced or added. */
export function overlay(files: Files, extra: Readonly<Record<string, Uint8Array>>): Files {
  const top = memoryFiles(files.origin, extra);
  return {
    origin: files.origin,
    size: async (name) => (await top.size(name)) ?? files.size(name),
    read: (name, start, end) => (name in extra ? top : files).read(name, start, end),
  };
}

/** A value as the bytes of a JSON file. */
export function jsonBytes(value: unknown): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(value));
}

function goldenBytes(name: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(new URL(`../src/data/fixtures/golden/${name}`, import.meta.url)));
}

function randomWeights(path: string, shape: readonly number[], seed: number): Float32Array {
  const data = new Float32Array(sizeOf(shape));
  const bound = shape.length === 1 || /embeddings?\b/.test(path) ? 0.3 : 1.5 / Math.sqrt(shape.at(-1)!);
  const middle = /norm.*weight$/i.test(path) ? 1 : 0;
  fillUniform(data, keyOf(seed, path), middle - bound, middle + bound);
  return data;
}
