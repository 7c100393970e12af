import type * as z from "zod";
import type { Layout } from "../core/batch.js";
import type { Value } from "../core/graph.js";
import type { Initializer } from "../core/initializer.js";

/** What a linear layer does in its model, for methods that choose by purpose rather than by name. */
export type LinearRole = "query" | "key" | "value" | "attention-output" | "up" | "down" | "pooler" | "head";

/** A linear layer that a model announces. */
export interface LinearSite {
  /** Its Hugging Face module path, e.g. `bert.encoder.layer.0.attention.self.query`. */
  readonly path: string;
  readonly role: LinearRole;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly bias: boolean;
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
  readonly heads: number;
  readonly headDim: number;
}

/** The table of word embeddings, where virtual tokens come in. */
export interface TokenSite {
  readonly path: string;
  /** Tokens in the vocabulary. */
  readonly rows: number;
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
  readonly sublayers: readonly SublayerSite[];
  readonly attentions: readonly AttentionSite[];
  readonly tokens: readonly TokenSite[];
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
  /** Names a value computed from parameters that stands for them in the published file, and takes over their place there. */
  publish(name: string, value: Value): Value;
}

/** What a parameter may say of itself. */
export interface ParamOptions {
  readonly trained?: boolean;
  /** Multiplies the learning rate. */
  readonly lr_scale?: number;
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

/** A sub-layer's end being built: its output h and the residual, both [T, D]. */
export interface SublayerCall {
  readonly h: Value;
  readonly residual: Value;
  /** The norm after the sum, or identity. */
  finish(sum: Value): Value;
}

/** Keys and values, [B, heads, N, K] each, and the additive mask over the N places, broadcastable to [B, heads, S, N]. */
export interface KeyValue {
  readonly key: Value;
  readonly value: Value;
  readonly mask: Value;
}

/** Where a config comes from: a user's must fit exactly, a published file may name more than this model has, as in Python. */
export type ConfigOrigin = "user" | "file";

/** How a method's tensors and config stand in published files. */
export interface AdapterFormat<C, P> {
  /** `peft_type` in adapter_config.json. */
  readonly peft_type: string;
  /** Published fields that change nothing here and are passed over whatever they hold. */
  readonly inert: readonly string[];
  /** Throws ConfigError for a published config that cannot be honoured here though its fields are known. */
  refuse?(published: Readonly<Record<string, unknown>>): void;
  /** The fields to publish, with the targets spelled out. */
  publish(config: C, plan: P): Readonly<Record<string, unknown>>;
  /** What stands before the names of the task head's tensors: `base_model.model.` in PEFT's tuners. */
  readonly prefix: string;
  /** The tensor's whole name in adapter_model.safetensors, for a parameter's path. */
  key(path: string, plan: P): string;
  /** Whether names are written without the prefix of the model's backbone (`bert.`); they are read with it and without. */
  readonly bare?: boolean;
  /** Parameters that old writers left out; where the file has none of them, the base model's values stand. */
  optional?(path: string, plan: P): boolean;
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
  /** What the collator must know. */
  layout?(config: C): Layout;
  /** Decides on the surveyed sites what to do where. Throws AttachError when nothing can be attached, or what is asked for cannot be. */
  plan(sites: Sites, config: C, origin: ConfigOrigin): P;
  /** Changes a linear layer's output. */
  linear?(site: LinearSite, call: LinearCall, scope: ParamScope, plan: P, config: C): Value;
  /** Changes how a sub-layer's output joins the residual stream. */
  sublayer?(site: SublayerSite, call: SublayerCall, scope: ParamScope, plan: P, config: C): Value;
  /** Changes keys and values on their way into attention. */
  keyValue?(site: AttentionSite, call: KeyValue, scope: ParamScope, plan: P, config: C): KeyValue;
  /** Virtual tokens [N, D] to put in front of each text. */
  tokens?(site: TokenSite, scope: ParamScope, plan: P, config: C): Value | undefined;
  /** Whether a weight of the base model is trained in place. */
  trains?(weight: WeightSite, plan: P, config: C): boolean;
  readonly files: AdapterFormat<C, P>;
}

/** A method with its config, planned on one model. */
export interface Attachment {
  readonly method: Method;
  readonly config: object;
  readonly plan: unknown;
}
