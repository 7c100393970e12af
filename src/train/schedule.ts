import { ConfigError } from "../errors.js";

/** The shapes of learning-rate schedules, in Hugging Face's names (`lr_scheduler_type`). */
export const SCHEDULE_TYPES = ["linear", "cosine", "constant", "constant_with_warmup"] as const;

/** One of `SCHEDULE_TYPES`. */
export type ScheduleType = (typeof SCHEDULE_TYPES)[number];

/** A learning-rate schedule; steps are optimiser steps, not micro-batches. */
export interface Schedule {
  readonly type: ScheduleType;
  /** The peak rate. */
  readonly learning_rate: number;
  /** Steps over which the rate climbs from 0 to the peak; `constant` has none and ignores it. */
  readonly warmup_steps: number;
  /** Steps of the whole training; `linear` and `cosine` are at 0 when they are done. */
  readonly total_steps: number;
}

/**
 * The learning rate for optimiser step number `step`, counted from 0, as transformers' `get_linear_schedule_with_warmup`,
 * `get_cosine_schedule_with_warmup` (half a cycle), `get_constant_schedule` and `get_constant_schedule_with_warmup` give it.
 */
export function learningRateAt(step: number, { type, learning_rate, warmup_steps, total_steps }: Schedule): number {
  if (type === "constant") return learning_rate;
  if (step < warmup_steps) return learning_rate * (step / Math.max(1, warmup_steps));
  if (type === "constant_with_warmup") return learning_rate;
  const span = Math.max(1, total_steps - warmup_steps);
  if (type === "linear") return learning_rate * Math.max(0, (total_steps - step) / span);
  return learning_rate * Math.max(0, 0.5 * (1 + Math.cos((Math.PI * (step - warmup_steps)) / span)));
}

/**
 * Warm-up steps from a share of all steps, rounded up, as transformers' `TrainingArguments.get_warmup_steps`.
 * Throws ConfigError when `ratio` is not within [0, 1].
 */
export function warmupSteps(ratio: number, totalSteps: number): number {
  if (!(ratio >= 0 && ratio <= 1)) {
    throw new ConfigError(`warmup_ratio must lie between 0 and 1, got ${ratio}`, { hint: "Give a number of steps as warmup_steps." });
  }
  return Math.ceil(ratio * totalSteps);
}
