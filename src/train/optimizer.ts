import { CheckpointError, ConfigError, ShapeError } from "../errors.js";

/** A trained parameter as the optimiser sees it: its module path, its numbers (changed in place) and how it is treated. */
export interface TrainedParam {
  readonly path: string;
  readonly values: Float32Array;
  /** Factor on the learning rate: 1 for most, LoRA+'s ratio for `lora_B`. Scales the weight decay too, as a torch param group's lr does. */
  readonly lr_scale: number;
  /** Whether weight decay applies; Hugging Face's Trainer exempts biases and norms. */
  readonly decay: boolean;
}

/** AdamW's settings, in `torch.optim.AdamW`'s names; defaults: `[0.9, 0.999]`, `1e-8`, `0`. */
export interface AdamWOptions {
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  readonly weight_decay?: number;
}

/** All that resuming needs besides the parameters: steps taken, first moments `m` and second moments `v`, by parameter path. */
export interface AdamWState {
  readonly step: number;
  readonly m: ReadonlyMap<string, Float32Array>;
  readonly v: ReadonlyMap<string, Float32Array>;
}

/**
 * Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2), equal to `torch.optim.AdamW`:
 * p ← p·(1 − lr·wd); m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; p ← p − lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + eps).
 * Arithmetic in float64, values and moments kept in float32. Throws ConfigError on settings out of range or a path given twice.
 */
export class AdamW {
  readonly #params: readonly TrainedParam[];
  readonly #betas: readonly [number, number];
  readonly #eps: number;
  readonly #weightDecay: number;
  readonly #m: readonly Float32Array[];
  readonly #v: readonly Float32Array[];
  #step = 0;

  constructor(params: readonly TrainedParam[], { betas = [0.9, 0.999], eps = 1e-8, weight_decay = 0 }: AdamWOptions = {}) {
    const problems: string[] = [];
    for (const beta of betas) if (!(beta >= 0 && beta < 1)) problems.push(`betas must lie in [0, 1), got ${beta}`);
    if (!(eps >= 0)) problems.push(`eps must not be negative, got ${eps}`);
    if (!(weight_decay >= 0)) problems.push(`weight_decay must not be negative, got ${weight_decay}`);
    const paths = new Set<string>();
    for (const { path } of params) {
      if (paths.has(path)) problems.push(`parameter ${path} is given twice`);
      paths.add(path);
    }
    if (problems.length > 0)
      throw new ConfigError(`AdamW: ${problems.join("; ")}`, { hint: "The defaults are betas 0.9 and 0.999, eps 1e-8." });
    this.#params = [...params];
    this.#betas = betas;
    this.#eps = eps;
    this.#weightDecay = weight_decay;
    this.#m = params.map(({ values }) => new Float32Array(values.length));
    this.#v = params.map(({ values }) => new Float32Array(values.length));
  }

  /**
   * One update of all parameters in place. `grads` are in the constructor's order; `learningRate` is the schedule's, before `lr_scale`.
   * Throws ShapeError, with nothing changed, when a gradient is missing or of another size.
   */
  step(grads: readonly Float32Array[], learningRate: number): void {
    const sizes = this.#params.map(({ path, values }) => ({ name: path, length: values.length }));
    checkSizes("AdamW.step", sizes, grads);
    this.#step += 1;
    const [beta1, beta2] = this.#betas;
    const correction1 = 1 - beta1 ** this.#step;
    const correction2 = 1 / Math.sqrt(1 - beta2 ** this.#step);
    this.#params.forEach(({ values, lr_scale, decay }, i) => {
      const lr = learningRate * lr_scale;
      const keep = decay ? 1 - lr * this.#weightDecay : 1;
      update(values, grads[i]!, this.#m[i]!, this.#v[i]!, { keep, beta1, beta2, stepSize: lr / correction1, correction2, eps: this.#eps });
    });
  }

  /** A copy of the state: later steps do not change it. */
  state(): AdamWState {
    const copy = (moments: readonly Float32Array[]) => new Map(this.#params.map(({ path }, i) => [path, moments[i]!.slice()]));
    return { step: this.#step, m: copy(this.#m), v: copy(this.#v) };
  }

  /**
   * Takes a state over by copying it; the next step then equals the one the saved run would have taken.
   * Throws CheckpointError, with nothing changed, naming every parameter whose moments are missing, too many or of another size.
   */
  restore(state: AdamWState): void {
    const problems: string[] = [];
    if (!Number.isInteger(state.step) || state.step < 0) problems.push(`step is ${state.step}, expected a count`);
    for (const [name, moments] of [["m", state.m] as const, ["v", state.v] as const]) {
      for (const { path, values } of this.#params) {
        const length = moments.get(path)?.length;
        if (length !== values.length) problems.push(`${name} of ${path} has ${length ?? "no"} elements, expected ${values.length}`);
      }
      const known = new Set(this.#params.map(({ path }) => path));
      for (const path of moments.keys()) if (!known.has(path)) problems.push(`${name} of ${path} belongs to no parameter`);
    }
    if (problems.length > 0) {
      throw new CheckpointError(`optimiser state does not fit: ${problems.join("; ")}`, {
        hint: "Resume with the method and the options that the checkpoint was made with.",
      });
    }
    this.#step = state.step;
    this.#params.forEach(({ path }, i) => {
      this.#m[i]!.set(state.m.get(path)!);
      this.#v[i]!.set(state.v.get(path)!);
    });
  }
}

interface UpdateNumbers {
  readonly keep: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly stepSize: number;
  /** Factor on √v; a product is cheaper than a quotient here. */
  readonly correction2: number;
  readonly eps: number;
}

// A function of its own, with the numbers in locals, so that the engine compiles one tight loop over the four arrays.
function update(p: Float32Array, g: Float32Array, m: Float32Array, v: Float32Array, numbers: UpdateNumbers): void {
  const { keep, beta1, beta2, stepSize, correction2, eps } = numbers;
  const rest1 = 1 - beta1;
  const rest2 = 1 - beta2;
  for (let i = 0; i < p.length; i++) {
    const gradient = g[i]!;
    const first = beta1 * m[i]! + rest1 * gradient;
    const second = beta2 * v[i]! + rest2 * gradient * gradient;
    m[i] = first;
    v[i] = second;
    p[i] = p[i]! * keep - (stepSize * first) / (Math.sqrt(second) * correction2 + eps);
  }
}

/**
 * Scales `grads` in place so that their global L2 norm is at most `maxNorm`, as `torch.nn.utils.clip_grad_norm_` (factor
 * maxNorm / (norm + 1e-6) where below 1). Returns the norm before clipping, summed in float64. With `maxNorm` 0 or undefined,
 * or a norm that is not finite (the caller must refuse it), the gradients stay as they are.
 */
export function clipGradNorm(grads: readonly Float32Array[], maxNorm?: number): number {
  let squares = 0;
  for (const grad of grads) squares += sumOfSquares(grad);
  const norm = Math.sqrt(squares);
  const scale = maxNorm ? maxNorm / (norm + 1e-6) : 1;
  if (scale < 1 && Number.isFinite(norm)) for (const grad of grads) scaleInPlace(grad, scale);
  return norm;
}

/**
 * Adds `scale`·`grads` to `into`, in place: gradient accumulation. For the mean over all rows of unequal micro-batches, `scale` is the
 * micro-batch's share of the loss rows. Throws ShapeError, with nothing changed, when a size differs.
 */
export function accumulate(into: readonly Float32Array[], grads: readonly Float32Array[], scale = 1): void {
  const sizes = into.map(({ length }, i) => ({ name: `gradient ${i}`, length }));
  checkSizes("accumulate", sizes, grads);
  into.forEach((sum, i) => {
    addScaledInPlace(sum, grads[i]!, scale);
  });
}

// Four sums, so that additions need not wait for each other.
function sumOfSquares(x: Float32Array): number {
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  const whole = x.length - (x.length % 4);
  for (let i = 0; i < whole; i += 4) {
    a += x[i]! * x[i]!;
    b += x[i + 1]! * x[i + 1]!;
    c += x[i + 2]! * x[i + 2]!;
    d += x[i + 3]! * x[i + 3]!;
  }
  for (let i = whole; i < x.length; i++) a += x[i]! * x[i]!;
  return a + b + (c + d);
}

function scaleInPlace(x: Float32Array, scale: number): void {
  for (let i = 0; i < x.length; i++) x[i] = x[i]! * scale;
}

function addScaledInPlace(sum: Float32Array, x: Float32Array, scale: number): void {
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + scale * x[i]!;
}

function checkSizes(what: string, expected: readonly { name: string; length: number }[], grads: readonly Float32Array[]): void {
  if (grads.length !== expected.length) throw new ShapeError(`${what}: ${grads.length} gradients for ${expected.length} parameters`);
  const wrong = expected.filter(({ length }, i) => grads[i]!.length !== length);
  if (wrong.length === 0) return;
  const lines = expected.flatMap(({ name, length }, i) =>
    grads[i]!.length === length ? [] : [`${name} has ${grads[i]!.length} elements, expected ${length}`],
  );
  throw new ShapeError(`${what}: ${lines.join("; ")}`);
}
