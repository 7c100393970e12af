import { fillNormal, fillUniform, keyOf, type RandomKey } from "./random.js";
import { f32, sizeOf, type Tensor } from "./tensor.js";

/** How a parameter starts. Values depend on the seed and the parameter's path only. */
export type Initializer =
  | { readonly kind: "constant"; readonly value: number }
  /** Uniform in [-bound, bound). */
  | { readonly kind: "uniform"; readonly bound: number }
  /** `on` on the diagonal of a matrix, `off` elsewhere. */
  | { readonly kind: "diagonal"; readonly on: number; readonly off: number }
  /** N(mean, std²); with `cut`, drawn again where it lies further than that from the mean. */
  | { readonly kind: "normal"; readonly mean: number; readonly std: number; readonly cut?: number }
  /** What `fill` writes into an array of zeros; the key is that of the seed and the path, for values that are to depend on them. */
  | { readonly kind: "filled"; fill(out: Float32Array, key: RandomKey): void }
  /** Part `part` of what is computed from the base model; parameters with the same `compute` share one computation. */
  | { readonly kind: "computed"; readonly compute: InitialComputation; readonly part: number }
  /** The base model's own weight at the same path; where the base has none, `otherwise`. */
  | { readonly kind: "base"; readonly otherwise?: Initializer };

/** What the base model offers to first values that are computed from it. */
export interface InitialSource {
  /** Where randomness comes from. */
  readonly seed: number;
  /** Its hub id, or the path as given. */
  readonly id: string;
  /** One of its weights, by path. Throws WeightError where the checkpoint lacks it. */
  weight(path: string): Promise<Tensor<"float32">>;
  /** Ids of a text's tokens by its tokenizer, special ones included. */
  tokenIds(text: string): ArrayLike<number>;
}

/** First values of one or more parameters, in a fixed order. */
export type InitialComputation = (base: InitialSource) => Promise<readonly Float32Array[]>;

/** An initializer whose values are drawn or constant and need no base model. */
export type DrawnInitializer = Exclude<Initializer, { kind: "base" | "computed" }>;

export const zeros: DrawnInitializer = { kind: "constant", value: 0 };
export const ones: DrawnInitializer = { kind: "constant", value: 1 };

/** N(0, std²). */
export function normal(std: number): DrawnInitializer {
  return { kind: "normal", mean: 0, std };
}

/** N(0, std²) within ±cut: torch's `trunc_normal_`. */
export function truncatedNormal(std: number, cut: number): DrawnInitializer {
  return { kind: "normal", mean: 0, std, cut };
}

/** Uniform in [-bound, bound). */
export function uniform(bound: number): DrawnInitializer {
  return { kind: "uniform", bound };
}

/** torch's default for a linear layer's weight, `kaiming_uniform_(a=√5)`: uniform in ±1/√fan_in. */
export function kaimingUniform(fanIn: number): DrawnInitializer {
  return { kind: "uniform", bound: 1 / Math.sqrt(fanIn) };
}

/** Values that a method computes itself. */
export function filled(fill: (out: Float32Array, key: RandomKey) => void): DrawnInitializer {
  return { kind: "filled", fill };
}

/** Draws a parameter's first values. `base` kinds must have been resolved by the caller, who knows the base model's weights. */
export function initialValues(init: DrawnInitializer, shape: readonly number[], seed: number, path: string): Tensor<"float32"> {
  const data = new Float32Array(sizeOf(shape));
  const key = keyOf(seed, "init", path);
  if (init.kind === "constant") data.fill(init.value);
  else if (init.kind === "diagonal") for (let i = 0; i < data.length; i++) data[i] = i % (shape[1]! + 1) === 0 ? init.on : init.off;
  else if (init.kind === "filled") init.fill(data, key);
  else if (init.kind === "uniform") fillUniform(data, key, -init.bound, init.bound);
  else {
    fillNormal(data, key, init.mean, init.std);
    if (init.cut !== undefined) redrawBeyond(init.cut, data, init, (round) => keyOf(seed, "init", path, round));
  }
  return f32(data, shape);
}

/** Draws values again, round by round, until all lie within the cut. */
function redrawBeyond(
  cut: number,
  data: Float32Array,
  { mean, std }: { readonly mean: number; readonly std: number },
  keyOfRound: (round: number) => ReturnType<typeof keyOf>,
): void {
  let open = Array.from(data.keys()).filter((i) => Math.abs(data[i]! - mean) > cut);
  for (let round = 1; open.length > 0; round++) {
    const fresh = new Float32Array(open.length);
    fillNormal(fresh, keyOfRound(round), mean, std);
    for (const [j, i] of open.entries()) data[i] = fresh[j]!;
    open = open.filter((i) => Math.abs(data[i]! - mean) > cut);
  }
}
