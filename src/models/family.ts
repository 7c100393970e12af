import type { Value } from "../core/graph.js";
import type { ModelBuilder } from "./builder.js";

/** What the rest of the program needs to know of any model's config. */
export interface ModelLimits {
  /** Tokens that a text may have at most, special tokens included. */
  readonly maxPositions: number;
  /** The position of a text's first token: 0, or pad_token_id + 1 in RoBERTa's kind. */
  readonly firstPosition: number;
  readonly vocabSize: number;
}

/** A task's head on a family of models. */
// biome-ignore lint/suspicious/noExplicitAny: a generic's bound; each family states its own config
export interface Head<C = any> {
  /** Modules that are the head's own, trained with every adapter. */
  readonly modules: readonly string[];
  /** A tensor of the head whose first size is the number of outputs, by its path: whoever has it has the head. */
  readonly output: string;
  /** The end of transformers' class name for it, where that is not the task's `headClass`. */
  readonly headClass?: string;
  /** A tensor that an adapter's files hold only where they bring the head, if that is another: biases and norms may be trained in place. */
  readonly brought?: string;
  /** Where the word embeddings serve as the head's last matrix: the path under which an adapter's files may hold one of its own. */
  readonly matrix?: string;
  /** Hidden states of the rows that bear loss [L, D] → what the task's loss reads, [L, outputs]. */
  build(m: ModelBuilder, hidden: Value, outputs: number, config: C): Value;
  /** Its layers as AdapterHub's own heads have them, where they are of that kind. */
  layered?(config: C): HubLayers;
}

/** A head's layers in AdapterHub's order: the index of each of its modules there, in the order in which paths are matched, and the head's structure. */
export interface HubLayers {
  readonly indices: Readonly<Record<string, number>>;
  readonly layers: number;
  /** Between the layers; null for none. */
  readonly activation: string | null;
  /** Whether the model's pooler comes first. */
  readonly pooler: boolean;
  /** Where the last layer gives tokens: whether each layer before it ends in a LayerNorm. */
  readonly tokens?: { readonly norm: boolean };
}

/** A family of models: one `model_type`, or several that share their code. `C` is the parsed config.json. */
// biome-ignore lint/suspicious/noExplicitAny: a generic's bound; each family states its own config
export interface ModelFamily<C = any> {
  readonly model_types: readonly string[];
  /** The start of transformers' class names, by model_type: "Bert" for BertForSequenceClassification. */
  readonly classes: Readonly<Record<string, string>>;
  /** Prefix of the backbone's paths (`bert`); checkpoints may have it or not. */
  readonly prefix: string;
  /** Reads config.json. Throws ConfigError or ModelError for what is not supported, by name. */
  parse(config: unknown): C;
  limits(config: C): ModelLimits;
  /** Whether each token sees only those before it; then heads that read one row of each text read its last, not its first. */
  readonly causal?: boolean;
  /**
   * Token ids in the batch → hidden states of all tokens [T, D], or of one row of each text [B, D] where `rows` (int32 [B]) names them: then
   * the last layer need not compute the others, whose values nobody reads.
   */
  encode(m: ModelBuilder, config: C, rows?: Value): Value;
  /** What the model's own pooler makes of the first tokens' hidden states [L, D], where it has one. */
  pool?(m: ModelBuilder, hidden: Value, config: C): Value;
  /** The epsilon of the norms in heads that AdapterHub builds for this family. */
  normEpsilon(config: C): number;
  /** The dropout that heads have in this family. */
  headDropout(config: C): number;
  /** Heads by task. */
  readonly heads: Readonly<Record<string, Head<C>>>;
  /** Other names that published checkpoints have for a path, beside the one without the prefix. */
  aliases?(path: string): readonly string[];
}

/** The names under which a checkpoint may hold a weight, the most usual first. */
export function checkpointNames(family: ModelFamily, path: string): readonly string[] {
  const bare = path.startsWith(`${family.prefix}.`) ? [path, path.slice(family.prefix.length + 1)] : [path];
  return [...bare, ...bare.flatMap((each) => family.aliases?.(each) ?? [])];
}
