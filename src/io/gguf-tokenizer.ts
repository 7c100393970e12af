import { ModelError } from "../errors.js";
import type { GgufMetadata } from "./gguf-metadata.js";
import { sentencePieceMerges } from "./sentencepiece-merges.js";

type Json = Readonly<Record<string, unknown>>;

/** What a byte-level BPE tokenizer does before it merges. */
interface Splitting {
  readonly normalizer: Json | null;
  readonly pre_tokenizer: Json;
  /** Whether a piece that is a token as it stands is not merged together. */
  readonly ignore_merges: boolean;
  /** Whether texts begin with the bos token unless the file says otherwise. */
  readonly bos: boolean;
}

const byteLevel = (use_regex: boolean): Json => ({ type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex });
const sequence = (...pretokenizers: readonly Json[]): Json => ({ type: "Sequence", pretokenizers });
const split = (pattern: string): Json => ({ type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false });
/** The pattern of Llama 3 and Qwen 2; they differ in how many digits make a piece. */
const words = (digits: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

const gpt2: Splitting = { normalizer: null, pre_tokenizer: byteLevel(true), ignore_merges: false, bos: false };
const smollm: Splitting = { ...gpt2, pre_tokenizer: sequence({ type: "Digits", individual_digits: true }, byteLevel(true)) };
const llama3: Splitting = {
  ...gpt2,
  pre_tokenizer: sequence(split(words("\\p{N}{1,3}")), byteLevel(false)),
  ignore_merges: true,
  bos: true,
};
const qwen2: Splitting = {
  ...gpt2,
  normalizer: { type: "NFC" },
  pre_tokenizer: sequence(split(words("\\p{N}")), byteLevel(false)),
};

/** By `tokenizer.ggml.pre`. A new one is a line here. */
const splittings: Readonly<Record<string, Splitting>> = {
  ...{ "gpt-2": gpt2, smollm, qwen2, "deepseek-r1-qwen": qwen2 },
  ...{ "llama-bpe": llama3, llama3, "llama-v3": llama3 },
};

/** Kinds of tokens in `tokenizer.ggml.token_type`. */
const CONTROL = 3;
const USER_DEFINED = 4;

/** tokenizer.json and tokenizer_config.json. */
export interface TokenizerFiles {
  readonly json: Json;
  readonly config: Json;
}

/**
 * The tokenizer that a GGUF file carries, as Hugging Face's files: byte-level BPE ("gpt2") with the pre-tokenizers that llama.cpp knows by name,
 * or Llama's SentencePiece BPE with byte fallback ("llama"). Throws ModelError for others, by name.
 */
export function ggufTokenizer(metadata: GgufMetadata, architecture: string, where: string): TokenizerFiles {
  const refuse = (message: string, hint?: string): never => {
    throw new ModelError(`${where}: ${message}`, { hint });
  };
  const tokens = metadata.texts("tokenizer.ggml.tokens") ?? refuse("holds no tokenizer (tokenizer.ggml.tokens)");
  const types = metadata.numbers("tokenizer.ggml.token_type") ?? [];
  const special = (name: string): { id: number; content: string } | undefined => {
    const id = metadata.number(`tokenizer.ggml.${name}_token_id`);
    if (id === undefined) return undefined;
    const content = tokens[id] ?? refuse(`tokenizer.ggml.${name}_token_id is ${id}, but there are ${tokens.length} tokens`);
    return { id, content };
  };
  const [bos, eos, unk, pad] = [special("bos"), special("eos"), special("unknown"), special("padding")];
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  if (Object.keys(vocab).length < tokens.length)
    refuse(`${tokens.length - Object.keys(vocab).length} tokens are given twice in tokenizer.ggml.tokens`);

  const named = new Set([bos, eos, unk, pad].map((token) => token?.id));
  const added = tokens.flatMap((content, id) => {
    const control = types[id] === CONTROL || named.has(id);
    if (!control && types[id] !== USER_DEFINED) return [];
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: control }];
  });
  const model = metadata.text("tokenizer.ggml.model");
  const build = model === "gpt2" ? byteLevelBpe : model === "llama" ? sentencePieceBpe : undefined;
  if (build === undefined) {
    return refuse(
      `a tokenizer of kind "${model ?? "(none)"}" is not read, expected gpt2 (byte-level BPE) or llama (SentencePiece BPE)`,
      ELSE,
    );
  }
  const { parts, bos: usual } = build({ metadata, tokens, vocab, unk: unk?.content, architecture, refuse });
  const begins = metadata.flag("tokenizer.ggml.add_bos_token") ?? usual;
  const ends = metadata.flag("tokenizer.ggml.add_eos_token") ?? false;
  const json = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added,
    ...parts,
    post_processor: around(begins ? bos : undefined, ends ? eos : undefined),
  };
  const template = metadata.text("tokenizer.chat_template");
  const config = {
    tokenizer_class: "PreTrainedTokenizerFast",
    ...(bos === undefined ? {} : { bos_token: bos.content }),
    ...(eos === undefined ? {} : { eos_token: eos.content }),
    ...(unk === undefined ? {} : { unk_token: unk.content }),
    ...(pad === undefined ? {} : { pad_token: pad.content }),
    clean_up_tokenization_spaces: false,
    model_max_length: metadata.number(`${architecture}.context_length`) ?? 1e30,
    ...(template === undefined ? {} : { chat_template: template }),
  };
  return { json, config };
}

const ELSE = "Give a folder with the model's own tokenizer.json and config.json, and the weights as safetensors, instead.";

interface Given {
  readonly metadata: GgufMetadata;
  readonly tokens: readonly string[];
  readonly vocab: Readonly<Record<string, number>>;
  readonly unk: string | undefined;
  readonly architecture: string;
  readonly refuse: (message: string, hint?: string) => never;
}

interface Built {
  /** tokenizer.json without added tokens and post-processor. */
  readonly parts: Json;
  readonly bos: boolean;
}

function byteLevelBpe({ metadata, vocab, architecture, refuse }: Given): Built {
  const merges = metadata.texts("tokenizer.ggml.merges") ?? refuse("holds no merges (tokenizer.ggml.merges)");
  // Files from before llama.cpp wrote the name: these architectures had one pre-tokenizer only.
  const old: Readonly<Record<string, string>> = { gpt2: "gpt-2", qwen2: "qwen2" };
  const pre = metadata.text("tokenizer.ggml.pre") ?? old[architecture];
  const splitting = pre !== undefined && Object.hasOwn(splittings, pre) ? splittings[pre] : undefined;
  if (splitting === undefined) {
    const known = Object.keys(splittings).join(", ");
    return refuse(`the pre-tokenizer "${pre ?? "(none)"}" (tokenizer.ggml.pre) is not read, expected one of ${known}`, ELSE);
  }
  const { ignore_merges, bos, ...before } = splitting;
  return {
    parts: {
      ...before,
      decoder: byteLevel(true),
      model: { ...bpe(vocab, merges), unk_token: null, fuse_unk: false, byte_fallback: false, ignore_merges },
    },
    bos,
  };
}

function sentencePieceBpe({ metadata, tokens, vocab, unk, refuse }: Given): Built {
  const scores = metadata.numbers("tokenizer.ggml.scores") ?? refuse("holds no scores (tokenizer.ggml.scores)");
  if (scores.length !== tokens.length) refuse(`${scores.length} scores (tokenizer.ggml.scores) for ${tokens.length} tokens`);
  const space = metadata.flag("tokenizer.ggml.add_space_prefix") ?? true;
  const underscores = { type: "Replace", pattern: { String: " " }, content: "▁" };
  const decoders = [{ type: "Replace", pattern: { String: "▁" }, content: " " }, { type: "ByteFallback" }, { type: "Fuse" }];
  return {
    parts: {
      normalizer: space ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, underscores] } : underscores,
      pre_tokenizer: null,
      decoder: { type: "Sequence", decoders: space ? [...decoders, { type: "Strip", content: " ", start: 1, stop: 0 }] : decoders },
      model: {
        ...bpe(vocab, sentencePieceMerges(tokens, scores)),
        unk_token: unk ?? null,
        fuse_unk: true,
        byte_fallback: true,
        ignore_merges: false,
      },
    },
    bos: true,
  };
}

function bpe(vocab: Json, merges: readonly unknown[]): Json {
  return { type: "BPE", dropout: null, continuing_subword_prefix: null, end_of_word_suffix: null, vocab, merges };
}

/** The post-processor that puts tokens before and after a text, or after each of a pair. */
function around(bos: { id: number; content: string } | undefined, eos: { id: number; content: string } | undefined): Json | null {
  if (bos === undefined && eos === undefined) return null;
  const side = (id: "A" | "B", type_id: number): readonly Json[] => [
    ...(bos === undefined ? [] : [{ SpecialToken: { id: bos.content, type_id } }]),
    { Sequence: { id, type_id } },
    ...(eos === undefined ? [] : [{ SpecialToken: { id: eos.content, type_id } }]),
  ];
  const used = [bos, eos].flatMap((token) => token ?? []);
  return {
    type: "TemplateProcessing",
    single: side("A", 0),
    pair: [...side("A", 0), ...side("B", 1)],
    special_tokens: Object.fromEntries(used.map(({ id, content }) => [content, { id: content, ids: [id], tokens: [content] }])),
  };
}
