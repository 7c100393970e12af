import { Tokenizer as Library } from "@huggingface/tokenizers";
import * as z from "zod";
import { ConfigError, ModelError, messageOf } from "../errors.js";
import type { Files } from "../io/files.js";
import { type ChatTemplate, chatTemplateOf } from "./chat.js";

/** One encoded text or pair of texts. */
export interface Encoding {
  /** Token ids `[T]`. */
  readonly ids: Int32Array;
  /** Segment of each token `[T]`, BERT's `token_type_ids`. */
  readonly typeIds: Int32Array;
  /** Whether tokens were left out to keep to the longest length. */
  readonly truncated: boolean;
}

/** The encoding of words, with their places; words that do not fit are left out at the end. */
export interface WordsEncoding extends Encoding {
  /** The place of each word's first piece; a word without pieces starts where the next one does. */
  readonly wordStarts: readonly number[];
  /** Pieces of each word: 0 for one that holds nothing the tokenizer keeps. */
  readonly wordPieces: readonly number[];
}

/** How a text is encoded. */
export interface EncodeOptions {
  /** The second text of a pair; "" is no second text, as in a single call in Python. */
  readonly pair?: string | undefined;
  /** Tokens to keep at most, special tokens included; no truncation without it. */
  readonly maxLength?: number | undefined;
  /** Adds what the model's post-processor adds, such as [CLS] and [SEP]; true by default. */
  readonly addSpecialTokens?: boolean | undefined;
}

/** How ids are decoded. */
export interface DecodeOptions {
  /** Leaves special tokens out; false by default, as in transformers. */
  readonly skipSpecialTokens?: boolean | undefined;
}

/** A model's tokenizer. Gives the ids that transformers' fast tokenizers give. */
export interface Tokenizer {
  /** Number of tokens, added ones included; Python's `len(tokenizer)`. */
  readonly vocabSize: number;
  readonly padId: number | undefined;
  readonly clsId: number | undefined;
  readonly sepId: number | undefined;
  readonly unkId: number | undefined;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly maskId: number | undefined;
  /** Ids of all special tokens; transformers' `all_special_ids`. */
  readonly specialIds: ReadonlySet<number>;
  /** `model_max_length` in tokens, or undefined where it is not given or means "no limit". */
  readonly modelMaxLength: number | undefined;
  /** `tokenizer_config.json` as it is, for what is not covered here. */
  readonly config: Readonly<Record<string, unknown>>;
  /** How messages become a text; undefined where the model's files say nothing of it. */
  readonly chatTemplate: ChatTemplate | undefined;
  /**
   * Encodes a text or a pair, as `tokenizer(text, pair, truncation=True, max_length)` does: a single text keeps its first tokens, a pair
   * loses tokens from the longer text ("longest_first"). Throws ConfigError when `maxLength` cannot hold the special tokens (Python then does not truncate at all).
   */
  encode(text: string, options?: EncodeOptions): Encoding;
  /**
   * Encodes words one by one, special tokens around the whole. Throws ConfigError as `encode` does.
   */
  encodeWords(words: readonly string[], options?: Pick<EncodeOptions, "maxLength">): WordsEncoding;
  /** The text of ids; ids without a token are left out. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** The id of a token as it stands in the vocabulary, or undefined. */
  tokenToId(token: string): number | undefined;
}

/**
 * Loads `tokenizer.json`, with `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja` where they are there; the last
 * wins over a template in the config, as in transformers 5.
 * Throws ModelError when `tokenizer.json` is missing, broken or uses a part that is not known here.
 */
export async function loadTokenizer(files: Files): Promise<Tokenizer> {
  if ((await files.size("tokenizer.json")) === undefined) {
    throw new ModelError(`${files.origin} has no tokenizer.json`, {
      hint: "Make one with Python: AutoTokenizer.from_pretrained(model).save_pretrained(folder), with transformers' fast tokenizers.",
    });
  }
  const json = await readJson(files, "tokenizer.json", TOKENIZER);
  const named = (await files.size("special_tokens_map.json")) === undefined ? {} : await readJson(files, "special_tokens_map.json", CONFIG);
  const own = (await files.size("tokenizer_config.json")) === undefined ? {} : await readJson(files, "tokenizer_config.json", CONFIG);
  const template =
    (await files.size(templateFile)) === undefined ? {} : { chat_template: new TextDecoder().decode(await files.read(templateFile)) };
  const config: Config = { ...named, ...own, ...template };
  try {
    return makeTokenizer(json, config);
  } catch (cause) {
    if (cause instanceof ModelError) throw cause;
    throw new ModelError(`cannot use ${files.origin}/tokenizer.json: ${messageOf(cause)}`, { cause });
  }
}

/**
 * Lengths to cut a pair to so that it fits `room` tokens, by the "longest_first" rule: only the longer text loses tokens while that is enough,
 * else both get half, an odd token going to the longer one (the second where equal). Source: `truncate_encodings` in tokenizers' truncation.rs.
 */
export function longestFirst(first: number, second: number, room: number): readonly [number, number] {
  if (first + second <= room) return [first, second];
  const shorter = Math.min(first, second);
  const half = Math.floor(room / 2);
  const [short, long] = shorter <= half ? [shorter, room - shorter] : [half, room - half];
  return first > second ? [long, short] : [short, long];
}

const templateFile = "chat_template.jinja";
const SPECIAL_TOKEN = z.union([z.string(), z.looseObject({ content: z.string() })]).nullish();
const TOKEN_NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"] as const;
const CONFIG = z.looseObject({
  ...{ bos_token: SPECIAL_TOKEN, eos_token: SPECIAL_TOKEN, unk_token: SPECIAL_TOKEN, sep_token: SPECIAL_TOKEN },
  ...{ pad_token: SPECIAL_TOKEN, cls_token: SPECIAL_TOKEN, mask_token: SPECIAL_TOKEN },
  additional_special_tokens: z.array(SPECIAL_TOKEN).nullish(),
  extra_special_tokens: z.union([z.array(SPECIAL_TOKEN), z.record(z.string(), SPECIAL_TOKEN)]).nullish(),
  added_tokens_decoder: z.record(z.string(), z.looseObject({ content: z.string(), special: z.boolean().default(false) })).nullish(),
  model_max_length: z.number().nullish(),
  truncation_side: z.enum(["left", "right"]).nullish(),
  clean_up_tokenization_spaces: z.boolean().nullish(),
});
type Config = z.infer<typeof CONFIG>;

const ADDED_TOKEN = z.looseObject({ id: z.number(), content: z.string() });
const TOKENIZER = z.looseObject({
  added_tokens: z.array(ADDED_TOKEN).default([]),
  truncation: z.looseObject({ direction: z.string().optional() }).nullish(),
  post_processor: z.unknown().optional(),
  model: z.looseObject({
    type: z.string().optional(),
    vocab: z.union([z.record(z.string(), z.number()), z.array(z.tuple([z.string(), z.number()]))]),
  }),
});
type TokenizerJson = z.infer<typeof TOKENIZER>;

/** One piece of what a post-processor puts together: special tokens, or the first or second text. */
type Piece = { readonly ids: readonly number[]; readonly typeId: number } | { readonly sequence: 0 | 1; readonly typeId: number };

/** What is used of the library; its own declarations do not resolve under NodeNext (imports without suffixes). */
interface LibraryTokenizer {
  encode(text: string, options: { readonly add_special_tokens: boolean }): { readonly ids: readonly (number | undefined)[] };
  decode(
    ids: readonly number[],
    options: { readonly skip_special_tokens: boolean; readonly clean_up_tokenization_spaces: boolean },
  ): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
  get_vocab(): ReadonlyMap<string, number>;
}

interface Template {
  readonly single: readonly Piece[];
  readonly pair: readonly Piece[];
}

function makeTokenizer(json: TokenizerJson, config: Config): Tokenizer {
  const template = templateOf(json.post_processor);
  // The library's own pairs and post-processing are not used: it drops the second text when the post-processor is ByteLevel only.
  const parts = {
    normalizer: null,
    pre_tokenizer: null,
    decoder: null,
    ...json,
    added_tokens: addedTokens(json, config),
    post_processor: null,
  };
  const library: LibraryTokenizer = new Library(parts, config);
  const keepEnd = (config.truncation_side ?? json.truncation?.direction?.toLowerCase()) === "left";
  const id = (name: (typeof TOKEN_NAMES)[number]): number | undefined => {
    const content = contentOf(config[name]);
    return content === undefined ? undefined : library.token_to_id(content);
  };
  const encodeAlone = (text: string): readonly number[] =>
    (text === "" ? [] : library.encode(text, { add_special_tokens: false }).ids).filter((token) => token !== undefined);
  return {
    vocabSize: library.get_vocab().size,
    padId: id("pad_token"),
    clsId: id("cls_token"),
    sepId: id("sep_token"),
    unkId: id("unk_token"),
    bosId: id("bos_token"),
    eosId: id("eos_token"),
    maskId: id("mask_token"),
    specialIds: new Set(parts.added_tokens.flatMap((token) => (token.special === true ? [token.id] : []))),
    modelMaxLength: config.model_max_length != null && config.model_max_length < 1e9 ? config.model_max_length : undefined,
    config,
    chatTemplate: chatTemplateOf(
      config,
      Object.fromEntries(
        TOKEN_NAMES.flatMap((name) => {
          const content = contentOf(config[name]);
          return content === undefined ? [] : [[name, content]];
        }),
      ),
    ),
    tokenToId: (token) => library.token_to_id(token),
    encode(text, { pair = "", maxLength = Number.POSITIVE_INFINITY, addSpecialTokens = true } = {}) {
      const texts = [encodeAlone(text), encodeAlone(pair)];
      const pieces = (pair === "" ? template.single : template.pair).filter((piece) => addSpecialTokens || "sequence" in piece);
      const specials = specialTokens(pieces, maxLength);
      const lengths = longestFirst(texts[0]!.length, texts[1]!.length, maxLength - specials);
      const cut = texts.map((ids, i) => (keepEnd ? ids.slice(ids.length - lengths[i]!) : ids.slice(0, lengths[i])));
      return { ...assemble(pieces, cut), truncated: texts.some((ids, i) => ids.length > lengths[i]!) };
    },
    encodeWords(words, { maxLength = Number.POSITIVE_INFINITY } = {}) {
      const pieces = words.map((word) => encodeAlone(word));
      const specials = specialTokens(template.single, maxLength);
      const first = template.single.findIndex((piece) => "sequence" in piece);
      const front = template.single.slice(0, first).reduce((count, piece) => count + ("ids" in piece ? piece.ids.length : 0), 0);
      const room = maxLength - specials;
      const tokens: number[] = [];
      const wordStarts: number[] = [];
      const wordPieces: number[] = [];
      for (const word of pieces) {
        if (tokens.length >= room) break;
        wordStarts.push(front + tokens.length);
        wordPieces.push(word.length);
        tokens.push(...word.slice(0, room - tokens.length));
      }
      return {
        ...assemble(template.single, [tokens]),
        wordStarts,
        wordPieces,
        truncated: pieces.reduce((sum, word) => sum + word.length, 0) > room,
      };
    },
    decode(ids, { skipSpecialTokens = false } = {}) {
      const known = Array.from(ids).filter((token) => library.id_to_token(token) !== undefined);
      if (known.length === 0) return "";
      // As transformers 5 does: cleaning up spaces is for WordPiece and would damage BPE's text.
      const cleanUp = json.model.type !== "BPE" && config.clean_up_tokenization_spaces === true;
      return library.decode(known, { skip_special_tokens: skipSpecialTokens, clean_up_tokenization_spaces: cleanUp });
    },
  };
}

/** How many tokens a template adds. Throws ConfigError when a text of `maxLength` tokens does not hold them. */
function specialTokens(pieces: readonly Piece[], maxLength: number): number {
  const count = pieces.reduce((sum, piece) => sum + ("ids" in piece ? piece.ids.length : 0), 0);
  if (Number.isNaN(maxLength) || maxLength < count) {
    throw new ConfigError(`a maximum length of ${maxLength} tokens does not hold the ${count} special tokens`);
  }
  return count;
}

function assemble(pieces: readonly Piece[], texts: readonly (readonly number[])[]): Omit<Encoding, "truncated"> {
  const tokens = pieces.map((piece) => ("ids" in piece ? piece.ids : texts[piece.sequence]!));
  const length = tokens.reduce((sum, ids) => sum + ids.length, 0);
  const ids = new Int32Array(length);
  const typeIds = new Int32Array(length);
  let at = 0;
  pieces.forEach((piece, i) => {
    ids.set(tokens[i]!, at);
    typeIds.fill(piece.typeId, at, at + tokens[i]!.length);
    at += tokens[i]!.length;
  });
  return { ids, typeIds };
}

const POST_PROCESSOR = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("ByteLevel") }),
  z.looseObject({
    type: z.enum(["BertProcessing", "RobertaProcessing"]),
    sep: z.tuple([z.string(), z.number()]),
    cls: z.tuple([z.string(), z.number()]),
  }),
  z.looseObject({
    type: z.literal("TemplateProcessing"),
    single: z.array(z.unknown()),
    pair: z.array(z.unknown()),
    special_tokens: z.record(z.string(), z.looseObject({ ids: z.array(z.number()) })),
  }),
  z.looseObject({ type: z.literal("Sequence"), processors: z.array(z.unknown()) }),
]);
const TEMPLATE_PIECE = z.union([
  z.object({ SpecialToken: z.object({ id: z.string(), type_id: z.number() }) }),
  z.object({ Sequence: z.object({ id: z.enum(["A", "B"]), type_id: z.number() }) }),
]);

/** What a post-processor adds, in one form. Without one (and with ByteLevel, which changes offsets only) a pair is both texts, types 0 and 1. */
function templateOf(json: unknown): Template {
  const [a, b]: readonly Piece[] = [
    { sequence: 0, typeId: 0 },
    { sequence: 1, typeId: 1 },
  ];
  const bare: Template = { single: [a!], pair: [a!, b!] };
  if (json === null || json === undefined) return bare;
  const parsed = POST_PROCESSOR.safeParse(json);
  if (!parsed.success)
    throw new ModelError(`tokenizer.json has a post-processor that is not known here: ${JSON.stringify(json).slice(0, 200)}`);
  const processor = parsed.data;
  switch (processor.type) {
    case "ByteLevel":
      return bare;
    case "BertProcessing":
    case "RobertaProcessing": {
      const cls: Piece = { ids: [processor.cls[1]], typeId: 0 };
      const sep: Piece = { ids: [processor.sep[1]], typeId: 0 };
      const single = [cls, a!, sep];
      if (processor.type === "BertProcessing") return { single, pair: [...single, b!, { ...sep, typeId: 1 }] };
      return { single, pair: [...single, sep, { sequence: 1, typeId: 0 }, sep] }; // RoBERTa: two separators, all types 0
    }
    case "TemplateProcessing": {
      const pieces = (template: readonly unknown[]): Piece[] =>
        template.map((item) => {
          const piece = TEMPLATE_PIECE.parse(item);
          if ("Sequence" in piece) return { sequence: piece.Sequence.id === "A" ? 0 : 1, typeId: piece.Sequence.type_id };
          const special = processor.special_tokens[piece.SpecialToken.id];
          if (special === undefined)
            throw new ModelError(`tokenizer.json's template names "${piece.SpecialToken.id}", which is not among its special tokens`);
          return { ids: special.ids, typeId: piece.SpecialToken.type_id };
        });
      return { single: pieces(processor.single), pair: pieces(processor.pair) };
    }
    case "Sequence": {
      const adding = processor.processors.filter((inner) => POST_PROCESSOR.safeParse(inner).data?.type !== "ByteLevel");
      if (adding.length > 1)
        throw new ModelError("tokenizer.json chains two post-processors that both add tokens, which is not supported here");
      return templateOf(adding[0]);
    }
  }
}

/**
 * The added tokens of tokenizer.json, with the special tokens that only the config names: transformers registers those as well, so that
 * "[SEP]" inside a text is one token (PreTrainedTokenizerFast.__init__).
 */
function addedTokens(json: TokenizerJson, config: Config): readonly z.infer<typeof ADDED_TOKEN>[] {
  const vocab = new Map(
    Array.isArray(json.model.vocab) ? json.model.vocab.map(([token], i) => [token, i] as const) : Object.entries(json.model.vocab),
  );
  const added = [...json.added_tokens];
  const seen = new Set(added.map((token) => token.content));
  let next = Math.max(vocab.size, ...added.map((token) => token.id + 1));
  const extra = config.extra_special_tokens ?? [];
  const named = [
    ...TOKEN_NAMES.map((name) => config[name]),
    ...(config.additional_special_tokens ?? []),
    ...(Array.isArray(extra) ? extra : Object.values(extra)),
  ].map((token) => (typeof token === "string" ? { content: token } : token));
  const decoder = Object.entries(config.added_tokens_decoder ?? {}).map(([id, token]) => ({
    ...{ special: false },
    ...token,
    id: Number(id),
  }));
  for (const token of [...decoder, ...named]) {
    if (token == null || seen.has(token.content)) continue;
    seen.add(token.content);
    const id = vocab.get(token.content) ?? ("id" in token && typeof token.id === "number" ? token.id : next);
    next = Math.max(next, id + 1);
    added.push({ ...SPECIAL, ...token, id });
  }
  return added;
}

const SPECIAL = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };

function contentOf(token: z.infer<typeof SPECIAL_TOKEN>): string | undefined {
  return typeof token === "string" ? token : (token?.content ?? undefined);
}

async function readJson<T extends z.ZodType>(files: Files, name: string, schema: T): Promise<z.infer<T>> {
  const text = new TextDecoder().decode(await files.read(name));
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new ModelError(`${files.origin}/${name} is not JSON: ${messageOf(cause)}`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.slice(0, 3).map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new ModelError(`${files.origin}/${name} is not as expected: ${faults.join("; ")}`);
}
