import type * as z from "zod";
import type { Layout } from "../core/batch.js";
import type { Value } from "../core/graph.js";
import type { Initializer } from "../core/initializer.js";
import type { Tensor } from "../core/tensor.js";

/** What a linear layer does in its model, for methods that choose by purpose rather than by name. */
export type LinearRole =
  | "query"
  | "key"
  | "value"
  | "query-key-value"
  | "attention-output"
  | "output-projection"
  | "gate"
  | "up"
  | "down"
  | "pooler"
  | "head";

/** A linear layer that a model announces. */
export interface LinearSite {
  /** Its Hugging Face module path, e.g. `bert.encoder.layer.0.attention.self.query`. */
  readonly path: string;
  readonly role: LinearRole;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly bias: boolean;
  /** Whether the checkpoint holds the weight as [in, out] (transformers' Conv1D) and not as [out, in]. */
  readonly transposed?: boolean;
  /** Path of another module's weight that serves as this layer's too. */
  readonly tied?: string;
  /** Whether recipes that rescale layers take this one, where its family's recipe is not that of its role. */
  readonly rescaled?: boolean;
}

/** The place where a sub-layer's output joins the residual stream. */
export interface SublayerSite {
  readonly path: string;
  readonly place: "attention" | "mlp";
  /** Index of the layer, from 0. */
  readonly layer: number;
  readonly width: number;
}

/** The place where keys and values enter attention. */
export interface AttentionSite {
  readonly path: string;
  readonly layer: number;
  /** Heads of keys and values, of which each may serve several of the queries'. */
  readonly heads: number;
  readonly queryHeads: number;
  readonly headDim: number;
}

/** An embedding table that a model announces: of words, positions or token types. */
export interface TableSite {
  /** Its Hugging Face module path, e.g. `bert.embeddings.word_embeddings`. */
  readonly path: string;
  readonly role: "embedding";
  /** Rows of the table: its layer takes an index for a one among that many zeros. */
  readonly inFeatures: number;
  /** Width of a row. */
  readonly outFeatures: number;
}

/** The table of word embeddings, where virtual tokens come in. */
export interface TokenSite {
  readonly path: string;
  /** Tokens in the vocabulary. */
  readonly rows: number;
  readonly width: number;
}

/** The place where the embeddings of all tokens leave for the first layer. */
export interface EmbeddingSite {
  /** Path of the backbone, e.g. `bert`. */
  readonly path: string;
  readonly width: number;
}

/** A weight of the base model. */
export interface WeightSite {
  readonly path: string;
  readonly shape: readonly number[];
}

/** All that a model announced when it was surveyed. */
export interface Sites {
  readonly linears: readonly LinearSite[];
  readonly tables: readonly TableSite[];
  /** Paths of tables whose weight is the output matrix over the vocabulary too. */
  readonly outputTables: readonly string[];
  readonly sublayers: readonly SublayerSite[];
  readonly attentions: readonly AttentionSite[];
  readonly tokens: readonly TokenSite[];
  readonly embeddings: readonly EmbeddingSite[];
  readonly weights: readonly WeightSite[];
  /** Modules that belong to the task and are always trained with the adapter: `classifier`, and what the checkpoint lacks. */
  readonly headModules: readonly string[];
}

/** How a method makes its parameters at a site; names are relative to the site's path. */
export interface ParamScope {
  param(name: string, shape: readonly number[], init: Initializer, options?: ParamOptions): Value;
  /** Dropout while training, nothing otherwise. */
  dropout(x: Value, rate: number): Value;
  /** The same scope for parameters that belong to no site: names are whole paths. */
  shared(): ParamScope;
  /** The same scope for an adapter that this one holds: its parameters' paths start with `name:`, and none is trained unless it is. */
  child(child: Child): ParamScope;
  /** Adds a scalar to the loss of each optimiser step. */
  penalize(penalty: Value): void;
  /** Names a value computed from parameters that stands for them in the published file, and takes over their place there. */
  publish(name: string, value: Value): Value;
}

/** What a parameter may say of itself. */
export interface ParamOptions {
  readonly trained?: boolean;
  /** Whether it is computed from the base model and stays as it is: neither trained nor published. */
  readonly derived?: boolean;
  /** Whether weight decay applies; true by default. */
  readonly decay?: boolean;
}

/** A linear layer being built: input, result so far, and its parts for methods that need them. */
export interface LinearCall {
  /** The input, [T, in]. */
  readonly x: Value;
  /** The output so far, bias included, [T, out]. */
  readonly y: Value;
  /** x·Wᵀ without the bias, for any x and any form in which the weight is stored. */
  matmul(x: Value): Value;
  readonly bias: Value | undefined;
  /** The squared Euclidean norm of each of W's rows, [out, 1]. */
  squaredNorms(): Value;
}

/** Rows being looked up in an embedding table. */
export interface TableCall {
  /** The rows so far, [T, width]. */
  readonly y: Value;
  /** The table as the base has it, [rows, width]. */
  readonly table: Value;
  /** The same rows of another table [rows, n] → [T, n]. */
  lookUp(table: Value): Value;
}

/** A linear layer's own weights as numbers: `weight` [out, in], and `bias` [out] where it has one. */
export interface LinearWeights {
  readonly weight: Tensor<"float32">;
  readonly bias: Tensor<"float32"> | undefined;
}

/** A method's parameters at a site as numbers, by the names under which it made them there; those that belong to no site by their paths. */
export type SiteParams = (name: string) => Tensor<"float32">;

/** A sub-layer's end being built: what the model gives, and what adapters have made of it so far. Values are [T, D]. */
export interface SublayerState {
  /** The sub-layer's own output. */
  readonly output: Value;
  readonly residual: Value;
  /** The norm after the sum, or identity. */
  finish(sum: Value): Value;
  /** The mean over each text's tokens, given to each of them: x [T, n] → [T, n]. Only where the method asks for whole texts. */
  textMean(x: Value): Value;
  /** What the next adapter reads, and in the end what joins the residual stream. */
  readonly h: Value;
  /** What that was before the adapter prepared it. */
  readonly before: Value;
  /** What the next adapter adds its result to. */
  readonly skip: Value;
  /** The last adapter's result alone. */
  readonly up: Value;
  /** How the last adapter has `h` join the stream; without it the residual is added and `finish` follows. */
  join?(h: Value): Value;
}

/** What a method does at the sub-layers' ends, in two steps, so that compositions can share the first among several adapters. */
export interface SublayerHandlers<C, P> {
  /** Whether anything is attached here. */
  has(site: SublayerSite, plan: P, config: C): boolean;
  /** Sets `h`, `before` and `skip` to what the adapter reads and adds to. */
  enter(site: SublayerSite, state: SublayerState, plan: P, config: C): SublayerState;
  /** Sets `h`, `up` and `join`. */
  apply(site: SublayerSite, state: SublayerState, scope: ParamScope, plan: P, config: C): SublayerState;
}

/** Keys and values, [B, heads, N, K] each. What a method puts in front of the texts' own, its layout's `positionOffset` counts. */
export interface KeyValue {
  readonly key: Value;
  readonly value: Value;
}

/** Where a config comes from: a user's must fit exactly, a published file may name more than this model has, as in Python. */
export type ConfigOrigin = "user" | "file";

/** How adapter layers stand in AdapterHub's files: `adapter_config.json` with the config's fields under `config`. */
export interface AdapterHubFiles<C> {
  readonly library: "adapters";
  /** Values of the fields that a published file leaves out, where they are not the method's own defaults. */
  readonly absent: Readonly<Record<string, unknown>>;
  /** The fields that a published file must have. */
  readonly required: readonly string[];
  /** The fields to publish: all that the library knows. */
  publish(config: C): Readonly<Record<string, unknown>>;
}

/** How a composition of adapters stands in AdapterHub's files: `adapter_setup.json` and a folder for each adapter. */
export interface SetupFiles<C> {
  /** `type` in adapter_setup.json: Stack, Average, Fuse. */
  readonly setup: string;
  /** The composition's `kwargs` in adapter_setup.json; undefined where it has none. */
  kwargs?(config: C): Readonly<Record<string, unknown>>;
  /** Whether it has parameters of its own, which AdapterHub keeps as a fusion layer in a folder named after its adapters. */
  readonly fusion?: true;
}

/** How a method's tensors and config stand in Hugging Face PEFT's files. */
export interface AdapterFormat<C, P> {
  /** `peft_type` in adapter_config.json. */
  readonly peft_type: string;
  /** Published fields that change nothing here and are passed over whatever they hold. */
  readonly inert: readonly string[];
  /**
   * A published config as this method's config has it, where they differ. Throws ConfigError for one that cannot be honoured here though its
   * fields are known.
   */
  read?(published: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>;
  /** The fields to publish, with the targets spelled out. `base` is the base model's id. */
  publish(config: C, plan: P, base: string): Readonly<Record<string, unknown>>;
  /** What stands before the names of the task head's tensors: `base_model.model.` in PEFT's tuners. */
  readonly prefix: string;
  /** The tensor's whole name in adapter_model.safetensors, for a parameter's path. */
  key(path: string, plan: P): string;
  /** Whether names are written without the prefix of the model's backbone (`bert.`); they are read with it and without. */
  readonly bare?: boolean;
  /** Parameters that old writers left out; where the file has none of them, the base model's values stand. */
  optional?(path: string, plan: P): boolean;
  /** Weights of the base in files that do not take the base's place, as this method has computed them from it already. */
  passesOver?(path: string, plan: P, config: C): boolean;
  /** Frozen parameters that files leave out, for their first values stand; where a file has them all the same they are passed over, as in Python. */
  omits?(path: string, plan: P): boolean;
}

/** A fine-tuning method: one record, of which only the handlers it needs. `C` is its config, `P` what it planned on the surveyed sites. */
// biome-ignore lint/suspicious/noExplicitAny: a generic's bound; each method states its own config and plan
export interface Method<C extends object = any, P = any> {
  /** The `--method` value and the name of its docs page. */
  readonly name: string;
  /** The published config: field names as in adapter_config.json, defaults, help. Stated once, here. */
  readonly config: z.ZodType<C> & { readonly shape: Readonly<Record<string, z.ZodType>> };
  /** A learning rate that suits most data, used where the user gives none. */
  readonly learningRate: number;
  /** Other values that `--method` takes for this method, with the config fields that each sets. */
  readonly presets?: Readonly<Record<string, Partial<C>>>;
  /** What the collator must know. */
  layout?(config: C): Layout;
  /** Whether it reads all rows of a text in every layer; else the last layer may compute only those that the head reads. */
  wholeTexts?(config: C, children: readonly Child[]): boolean;
  /**
   * Decides on the surveyed sites what to do where. `children` are the adapters that a composition holds; other methods have none.
   * Throws AttachError when nothing can be attached, or what is asked for cannot be.
   */
  plan(sites: Sites, config: C, origin: ConfigOrigin, children: readonly Child[]): P;
  /** Changes a linear layer's output. */
  linear?(site: LinearSite, call: LinearCall, scope: ParamScope, plan: P, config: C): Value;
  /** A linear layer's weights that give by themselves what `linear` makes of its output. Absent where no weight can hold that. */
  merge?(site: LinearSite, weights: LinearWeights, params: SiteParams, plan: P, config: C): LinearWeights;
  /**
   * The inverse of `merge`; `original` are the weights from before, where the caller has them. Throws ConfigError where the merged weights and
   * the parameters do not tell what was before.
   */
  unmerge?(
    site: LinearSite,
    merged: LinearWeights,
    params: SiteParams,
    plan: P,
    config: C,
    original: LinearWeights | undefined,
  ): LinearWeights;
  /** Changes the rows looked up in an embedding table. */
  table?(site: TableSite, call: TableCall, scope: ParamScope, plan: P, config: C): Value;
  /** A table [rows, width] that gives by itself what `table` makes of its rows. Absent where none can hold that. */
  mergeTable?(site: TableSite, table: Tensor<"float32">, params: SiteParams, plan: P, config: C): Tensor<"float32">;
  /** The inverse of `mergeTable`, as `unmerge` is that of `merge`. */
  unmergeTable?(
    site: TableSite,
    merged: Tensor<"float32">,
    params: SiteParams,
    plan: P,
    config: C,
    original: Tensor<"float32"> | undefined,
  ): Tensor<"float32">;
  /** Changes a sub-layer's output before it joins the residual stream. */
  readonly sublayer?: SublayerHandlers<C, P>;
  /** Changes the embeddings [T, D] on their way into the first layer. */
  embedding?(site: EmbeddingSite, h: Value, scope: ParamScope, plan: P, config: C): Value;
  /** Undoes `embedding` on hidden states [L, D] that a language-model head is about to compare with the word embeddings. */
  unembedding?(site: EmbeddingSite, h: Value, scope: ParamScope, plan: P, config: C): Value;
  /** Changes keys and values on their way into attention. */
  keyValue?(site: AttentionSite, call: KeyValue, scope: ParamScope, plan: P, config: C): KeyValue;
  /** Virtual tokens [N, D] to put in front of each text. */
  tokens?(site: TokenSite, scope: ParamScope, plan: P, config: C): Value | undefined;
  /** Whether a weight of the base model is trained in place. */
  trains?(weight: WeightSite, plan: P, config: C): boolean;
  /** A factor on the learning rate of a trained tensor, its own or of the head; 1 without it. */
  lrScale?(tensor: WeightSite, config: C): number;
  readonly files: AdapterFormat<C, P> | AdapterHubFiles<C> | SetupFiles<C>;
}

/** A method whose adapters stand in Hugging Face PEFT's files. */
// biome-ignore lint/suspicious/noExplicitAny: a generic's bound; each method states its own config and plan
export interface PeftMethod<C extends object = any, P = any> extends Method<C, P> {
  readonly files: AdapterFormat<C, P>;
}

/** A method with its config, planned on one model. */
export interface Attachment {
  readonly method: Method;
  readonly config: object;
  readonly plan: unknown;
  /** The adapters that a composition holds; none for other methods. */
  readonly children: readonly Child[];
}

/** An adapter in a composition. */
export interface Child {
  /** Its name, unique in the composition, without "." and ":". */
  readonly name: string;
  readonly attachment: Attachment;
  /** Whether it learns with the composition or stays as it is. */
  readonly trained: boolean;
}
