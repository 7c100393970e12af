import { dimAdd } from "../core/dims.js";
import { apply, type OpDef, type Value } from "../core/graph.js";
import { i64 } from "../core/tensor.js";
import { rotaryOp } from "./rotary.js";
import { sameShape, shapeError } from "./shapes.js";

interface CachedAttentionAttrs {
  /** Heads of the queries, H. */
  readonly heads: number;
  /** Heads of the keys and values, G: each serves H/G queries' heads in a row. */
  readonly kvHeads: number;
}

/** Queries or keys whose heads are yet to be rotated, and by what: `rotary`'s x, cos and sin. */
type Turned = readonly [x: Value, cos: Value, sin: Value];

/**
 * Attention of texts that are continued, as one node: what `attend` gives for the cached keys and values with the new ones behind them.
 * Inputs: packed rows q [T, H*K], k and v [T, G*K]; mask [B, 1, S, P+S]; past keys and values [B, G, P, K]; places int32 [B, S], the packed row
 * of each place; tokenIndex int32 [T], the place of each row; and where q and k are to be rotated first, cos and sin [T, K/2] of the rows.
 * Outputs: the context [T, H*K], all keys and all values [B, G, P+S, K].
 */
export const cachedAttentionOp: OpDef<CachedAttentionAttrs> = {
  name: "cached_attention",
  infer: (inputs, { heads, kvHeads }) => {
    const [q, k, v, mask, pastKey, pastValue, places, tokenIndex, ...angles] = inputs;
    const [B, G, P, K] = pastKey?.shape ?? [];
    const [T, S] = [q?.shape[0], places?.shape[1]];
    const N = P === undefined || S === undefined ? 0 : dimAdd(P, S);
    const fits =
      (inputs.length === 8 || inputs.length === 10) &&
      G === kvHeads &&
      sameShape(q!.shape, [T!, heads * Number(K)]) &&
      [k!, v!].every(({ shape }) => sameShape(shape, [T!, kvHeads * Number(K)])) &&
      sameShape(mask!.shape, [B!, 1, S!, N]) &&
      sameShape(pastValue!.shape, pastKey!.shape) &&
      places!.shape[0] === B &&
      sameShape(tokenIndex!.shape, [T!]) &&
      angles.every(({ shape }) => sameShape(shape, [T!, Number(K) / 2]));
    if (!fits) {
      const wanted = `q [T, ${heads}*K], k, v [T, ${kvHeads}*K], mask [B, 1, S, P+S], past keys and values [B, ${kvHeads}, P, K], places [B, S], tokenIndex [T], and cos and sin [T, K/2] or nothing`;
      throw shapeError("cached_attention", inputs, wanted);
    }
    const all = { dtype: "float32" as const, shape: [B!, G!, N, K!] };
    return [q!, all, all];
  },
  vjp: "unsupported",
  emit: (e, [q, k, v, mask, pastKey, pastValue, places, tokenIndex, ...angles], { heads, kvHeads }, [type]) => {
    const padded = (rows: string): string => e.node("Gather", [rows, places!], { axis: 0 })[0]!;
    const turned = (rows: string, num_heads: number): string => {
      if (angles.length === 0) return padded(rows);
      // a place's position in the tables of angles is its packed row
      const [positions] = e.node("Cast", [places!], { to: 7 });
      const inputs = [padded(rows), positions!, ...angles];
      return e.node("RotaryEmbedding", inputs, { interleaved: 0, num_heads }, { domain: "com.microsoft" })[0]!;
    };
    const inputs = [turned(q!, heads), turned(k!, kvHeads), padded(v!), mask!, pastKey!, pastValue!];
    const [y, key, value] = e.node("Attention", inputs, { q_num_heads: heads, kv_num_heads: kvHeads }, { outputs: 3 });
    const [rows] = e.node("Reshape", [y!, e.constant(i64([-1, Number(type!.shape[1])]))]);
    return [e.node("Gather", [rows!, tokenIndex!], { axis: 0 })[0]!, key!, value!];
  },
};

/** Attention of packed rows over cached keys and values and their own; its inputs and outputs are those of the op. */
export function cachedAttention(
  { q, k, v }: { readonly q: Value; readonly k: Value; readonly v: Value },
  mask: Value,
  past: { readonly key: Value; readonly value: Value },
  places: Value,
  tokenIndex: Value,
  heads: CachedAttentionAttrs,
): { readonly context: Value; readonly key: Value; readonly value: Value } {
  const [turnedQ, turnedK] = [unturned(q), unturned(k)];
  const both = turnedQ !== undefined && turnedK !== undefined && turnedQ[1] === turnedK[1] && turnedQ[2] === turnedK[2];
  const rows = both ? [turnedQ[0], turnedK[0], v] : [q, k, v];
  const inputs = [...rows, mask, past.key, past.value, places, tokenIndex, ...(both ? turnedQ.slice(1) : [])];
  const [context, key, value] = apply(cachedAttentionOp, inputs, heads);
  return { context: context!, key: key!, value: value! };
}

/** What was rotated, where it was. */
function unturned({ source }: Value): Turned | undefined {
  if (source.kind !== "op" || source.op !== rotaryOp) return undefined;
  const [x, cos, sin] = source.inputs;
  return [x!, cos!, sin!];
}
