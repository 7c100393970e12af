import { dimAdd } from "../core/dims.js";
import { apply, type OpDef, type Value } from "../core/graph.js";
import { i64 } from "../core/tensor.js";
import { sameShape, shapeError } from "./shapes.js";

interface CachedAttentionAttrs {
  /** Heads of the queries, H. */
  readonly heads: number;
  /** Heads of the keys and values, G: each serves H/G queries' heads in a row. */
  readonly kvHeads: number;
}

/**
 * Attention of texts that are continued, as one node: what `attend` gives for the cached keys and values with the new ones behind them.
 * Inputs: packed rows q [T, H*K], k and v [T, G*K]; mask [B, 1, S, P+S]; past keys and values [B, G, P, K]; places int32 [B, S], the packed row
 * of each place; tokenIndex int32 [T], the place of each row. Outputs: the context [T, H*K], all keys and all values [B, G, P+S, K].
 */
export const cachedAttentionOp: OpDef<CachedAttentionAttrs> = {
  name: "cached_attention",
  infer: (inputs, { heads, kvHeads }) => {
    const [q, k, v, mask, pastKey, pastValue, places, tokenIndex] = inputs;
    const [B, G, P, K] = pastKey?.shape ?? [];
    const [T, S] = [q?.shape[0], places?.shape[1]];
    const N = P === undefined || S === undefined ? 0 : dimAdd(P, S);
    const fits =
      inputs.length === 8 &&
      G === kvHeads &&
      sameShape(q!.shape, [T!, heads * Number(K)]) &&
      [k!, v!].every(({ shape }) => sameShape(shape, [T!, kvHeads * Number(K)])) &&
      sameShape(mask!.shape, [B!, 1, S!, N]) &&
      sameShape(pastValue!.shape, pastKey!.shape) &&
      places!.shape[0] === B &&
      sameShape(tokenIndex!.shape, [T!]);
    if (!fits) {
      const wanted = `q [T, ${heads}*K], k, v [T, ${kvHeads}*K], mask [B, 1, S, P+S], past keys and values [B, ${kvHeads}, P, K], places [B, S], tokenIndex [T]`;
      throw shapeError("cached_attention", inputs, wanted);
    }
    const all = { dtype: "float32" as const, shape: [B!, G!, N, K!] };
    return [q!, all, all];
  },
  vjp: "unsupported",
  emit: (e, [q, k, v, mask, pastKey, pastValue, places, tokenIndex], { heads, kvHeads }, [type]) => {
    const padded = [q!, k!, v!].map((rows) => e.node("Gather", [rows, places!], { axis: 0 })[0]!);
    const attributes = { q_num_heads: heads, kv_num_heads: kvHeads };
    const [y, key, value] = e.node("Attention", [...padded, mask!, pastKey!, pastValue!], attributes, { outputs: 3 });
    const [rows] = e.node("Reshape", [y!, e.constant(i64([-1, Number(type!.shape[1])]))]);
    return [e.node("Gather", [rows!, tokenIndex!], { axis: 0 })[0]!, key!, value!];
  },
};

/** Attention of packed rows over cached keys and values and their own; its inputs and outputs are those of the op. */
export function cachedAttention(
  rows: { readonly q: Value; readonly k: Value; readonly v: Value },
  mask: Value,
  past: { readonly key: Value; readonly value: Value },
  places: Value,
  tokenIndex: Value,
  heads: CachedAttentionAttrs,
): { readonly context: Value; readonly key: Value; readonly value: Value } {
  const inputs = [rows.q, rows.k, rows.v, mask, past.key, past.value, places, tokenIndex];
  const [context, key, value] = apply(cachedAttentionOp, inputs, heads);
  return { context: context!, key: key!, value: value! };
}
