import type { BatchInputs } from "../core/batch.js";
import type { Value } from "../core/graph.js";
import type { AttentionSite, KeyValue } from "../methods/method.js";
import { attend, attentionMask, type HeadPlaces, headPlaces, mergeHeads, slotMask, splitHeads, stripMask } from "../ops/attention.js";
import { cachedAttention } from "../ops/cached-attention.js";
import { concat, reshape } from "../ops/movement.js";

/** What queries may see: all keys of their text, those up to their own place, or of those the last `window`. */
export interface Sight {
  readonly causal: boolean;
  readonly window: number | null;
}

/** What a layer's attention gives: `context` in the queries' shape, and where a batch continues texts all keys and values known by now. */
export interface Attended {
  readonly context: Value;
  readonly present: KeyValue | undefined;
}

/** Attention over packed rows; the layers of a model share its masks and places. */
export class PackedAttention {
  readonly #batch: BatchInputs;
  /** Keys that methods put in front of each text's own. */
  readonly #keysAhead: number;
  /** Whether texts may share a row: where keys are the texts' own and none are cached, a method's or by text. */
  readonly #canShare: boolean;
  readonly #masks = new Map<string, Value>();
  readonly #places = new Map<string, HeadPlaces>();

  constructor(batch: BatchInputs, { keysAhead, ownKeysOnly }: { readonly keysAhead: number; readonly ownKeysOnly: boolean }) {
    this.#batch = batch;
    this.#keysAhead = keysAhead;
    this.#canShare = ownKeysOnly && batch.cache === undefined;
  }

  /**
   * Attention within each text. k, v are packed rows [T, kvHeads*K]; q is [T, heads*K] too, or one row of each text, its last where attention is
   * causal, [B, heads*K]. `change` is what methods make of keys and values, `drop` the dropout of probabilities.
   */
  attend(
    site: AttentionSite,
    { q, k, v }: { readonly q: Value; readonly k: Value; readonly v: Value },
    sight: Sight,
    change: (known: KeyValue) => KeyValue,
    drop: (probabilities: Value) => Value,
  ): Attended {
    const { heads: kvHeads, queryHeads: heads } = site;
    const wide = q.shape[0] === "T";
    const shared = wide && this.#canShare;
    const own = this.#placesOf(kvHeads, shared);
    const fresh = { key: splitHeads(k, own), value: splitHeads(v, own) };
    const past = this.#past(site);
    const known = past === undefined ? fresh : { key: concat([past.key, fresh.key], 2), value: concat([past.value, fresh.value], 2) };
    const kv = change(known);
    if (past !== undefined && kv === known) {
      const places = reshape(this.#batch.padIndex, ["B", "S"]);
      const mask = this.#maskOf(sight, false);
      const { context, ...present } = cachedAttention({ q, k, v }, mask, past, places, this.#batch.tokenIndex, { heads, kvHeads });
      return { context, present };
    }
    const present = past === undefined ? undefined : known;
    if (wide) {
      const places = this.#placesOf(heads, shared);
      const context = mergeHeads(attend(splitHeads(q, places), kv.key, kv.value, this.#maskOf(sight, shared), drop), places);
      return { context, present };
    }
    const one = reshape(q, ["B", heads, 1, site.headDim]);
    const all = this.#maskOf({ causal: false, window: null }, false);
    return { context: reshape(attend(one, kv.key, kv.value, all, drop), q.shape), present };
  }

  #placesOf(heads: number, shared: boolean): HeadPlaces {
    const name = `${heads} ${shared}`;
    const places = this.#places.get(name) ?? headPlaces(shared ? this.#batch.strips : this.#batch, heads);
    this.#places.set(name, places);
    return places;
  }

  /** A layer's cached keys and values, where the batch continues texts. */
  #past({ layer, heads, headDim }: AttentionSite): KeyValue | undefined {
    const { cache } = this.#batch;
    if (cache === undefined) return undefined;
    return { key: cache.past(layer, "key", heads, headDim), value: cache.past(layer, "value", heads, headDim) };
  }

  #maskOf({ causal, window }: Sight, shared: boolean): Value {
    const name = `${causal} ${window} ${shared}`;
    const mask = this.#masks.get(name) ?? this.#makeMask({ causal, window }, shared);
    this.#masks.set(name, mask);
    return mask;
  }

  #makeMask(sight: Sight, shared: boolean): Value {
    const { cache, strips } = this.#batch;
    if (shared) return stripMask(strips, sight);
    return cache === undefined ? attentionMask(this.#batch, { ...sight, ahead: this.#keysAhead }) : slotMask(cache, sight.window);
  }
}
