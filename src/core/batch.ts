import { type Dim, dimAdd, dimMul } from "./dims.js";
import { input, type Value } from "./graph.js";

/**
 * The inputs of a packed batch, as the graph sees them. All real tokens of all texts stand in one [T, D] matrix; only attention regroups
 * them to [B, S, ..] (or strips, [A, W, ..]) and back by two index vectors. Sizes: T tokens, B texts, S the longest text, L rows that bear loss.
 */
export interface BatchInputs extends PlaceInputs {
  /** Ids of the texts' tokens, int32 [T]; with virtual tokens int32 [R], where R is T less those. */
  readonly ids: Value;
  /** With virtual tokens: for each packed row its row in [the texts' tokens; the virtual tokens], int32 [T]. */
  readonly joinIndex: Value;
  /** Position of each token in its text, from 0, int32 [T]. */
  readonly positions: Value;
  /** Segment of each token (0, or 1 for the second text of a pair), int32 [T]. */
  readonly typeIds: Value;
  /** The same tokens in fewer rows: short texts behind one another. */
  readonly strips: StripInputs;
  /** Packed rows that the head reads, int32 [L]: the first token of each text for classification, where L is B. */
  readonly lossRows: Value;
  /** Class of each loss row, int32 [L]. */
  readonly classes: Value;
  /** Target of each loss row in a regression, float32 [L]. */
  readonly targets: Value;
  /** Factor on the sum of all rows' losses, float32 []: 1 / (loss rows in the optimiser step). */
  readonly lossScale: Value;
  /** Where a batch continues texts whose keys and values are known: what attention must know of them. */
  readonly cache?: CacheInputs;
}

/** How packed rows stand in padded ones: one text in each, or (strips, where B is A and S is W) as many as fit. */
export interface PlaceInputs {
  /** For each padded place the packed row to read, int32 [B*S]; places that are padding read any real row. */
  readonly padIndex: Value;
  /** For each packed row its padded place, int32 [T]. */
  readonly tokenIndex: Value;
  /** Tokens in each padded row, int32 [B]. */
  readonly lengths: Value;
  /** 0, 1, …, S-1, int32 [S]. */
  readonly slots: Value;
  /** 1 for real places, 0 for padding, float32 [B*S, 1]. */
  readonly rowMask: Value;
}

/** Padded rows that hold several texts, A of them, W places wide; attention sees to it that texts do not see each other. */
export interface StripInputs extends PlaceInputs {
  /** The text that stands at each place, from 0, int32 [A, W]; -1 for padding. */
  readonly texts: Value;
  /** The place in its text of what stands at each place, int32 [A, W]. */
  readonly positions: Value;
}

/** The order of queries and keys in texts of which P padded places came before. Places that hold no token have `emptySlot`. */
export interface CacheInputs {
  /** Each query's slot in its text, int32 [B, S]. */
  readonly querySlots: Value;
  /** The slots of all keys: those in front of the texts (-N, …, -1), the cached, the new; int32 [B, N+P+S]. */
  readonly keySlots: Value;
  /** A layer's cached keys or values, float32 [B, heads, P, K]. */
  past(layer: number, part: "key" | "value", heads: number, headDim: number): Value;
}

/** The slot of places without a token: after all queries, so that none sees them. */
export const emptySlot = 2 ** 30;

/** The input that a layer's cached keys or values are. */
export function pastName(layer: number, part: "key" | "value"): string {
  return `past:${layer}:${part}`;
}

/** The output that is to be fed to the next run as the input of a name; undefined for inputs that are no cache. */
export function presentName(past: string): string | undefined {
  return past.startsWith("past:") ? past.replace("past", "present") : undefined;
}

/** What the collator must know of a method before any graph exists. */
export interface Layout {
  /** Rows put in front of each text. */
  readonly virtualTokens: number;
  /** Position of the first row beyond the model's own first one: prefix tuning counts its keys. */
  readonly positionOffset: number;
}

/** Nothing in front of the texts. */
export const plainLayout: Layout = { virtualTokens: 0, positionOffset: 0 };

/** The inputs of a batch that continues texts, as fresh leaves; `ahead` keys stand in front of each text. */
export function cacheInputs(ahead: number): CacheInputs {
  const keys: Dim = dimAdd("P", "S", ahead);
  return {
    querySlots: input("querySlots", "int32", ["B", "S"]),
    keySlots: input("keySlots", "int32", ["B", keys]),
    past: (layer, part, heads, headDim) => input(pastName(layer, part), "float32", ["B", heads, "P", headDim]),
  };
}

/** The batch's inputs as fresh leaves, for one graph. `onePerText` says that the head reads one row of each text, so that L is B. */
export function batchInputs(onePerText: boolean, { virtualTokens }: Layout = plainLayout): BatchInputs {
  const L = onePerText ? "B" : "L";
  return {
    ids: input("ids", "int32", [virtualTokens > 0 ? "R" : "T"]),
    joinIndex: input("joinIndex", "int32", ["T"]),
    positions: input("positions", "int32", ["T"]),
    typeIds: input("typeIds", "int32", ["T"]),
    ...placeInputs("", "B", "S"),
    strips: {
      ...placeInputs("strips:", "A", "W"),
      texts: input("strips:texts", "int32", ["A", "W"]),
      positions: input("strips:positions", "int32", ["A", "W"]),
    },
    lossRows: input("lossRows", "int32", [L]),
    classes: input("classes", "int32", [L]),
    targets: input("targets", "float32", [L]),
    lossScale: input("lossScale", "float32", []),
  };
}

function placeInputs(prefix: string, rows: string, width: string): PlaceInputs {
  return {
    padIndex: input(`${prefix}padIndex`, "int32", [dimMul(rows, width)]),
    tokenIndex: input(`${prefix}tokenIndex`, "int32", ["T"]),
    lengths: input(`${prefix}lengths`, "int32", [rows]),
    slots: input(`${prefix}slots`, "int32", [width]),
    rowMask: input(`${prefix}rowMask`, "float32", [dimMul(rows, width), 1]),
  };
}
