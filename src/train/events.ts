import type { BaseDtype } from "../programs/base-dtype.js";
import type { Metrics } from "../tasks/task.js";

/** What happens while training, in the order in which it happens. Field names are those of `log.jsonl` and `--json`. */
export type TrainEvent =
  | {
      readonly event: "start";
      readonly model: string;
      readonly task: string;
      readonly method: string;
      readonly train_rows: number;
      readonly eval_rows: number;
      /** Where the evaluation rows come from: given, or held out of the training rows; none for very few rows. */
      readonly eval_source: "given" | "held-out" | "none";
      /** Training rows that were cut to the longest length. */
      readonly truncated_rows: number;
      /** Those of them that are left out, because nothing to learn is left of them. */
      readonly dropped_rows: number;
      /** Label names in id order; null for numbers. */
      readonly labels: readonly string[] | null;
      readonly trained_parameters: number;
      /** Parameters of the base model's graph and the adapter together. */
      readonly total_parameters: number;
      /** Modules that the checkpoint lacks and that therefore start fresh, beside the task's head. */
      readonly new_modules: readonly string[];
      readonly learning_rate: number;
      /** How the frozen matrices of linear layers are stored: what was asked for, or what `auto` picked. */
      readonly base_dtype: BaseDtype;
      readonly steps: number;
      readonly steps_per_epoch: number;
      /** The optimiser step after which a resumed run goes on; null for a fresh one. */
      readonly resumed_from: number | null;
    }
  | {
      readonly event: "step";
      /** Optimiser steps done, from 1. */
      readonly step: number;
      readonly epoch: number;
      /** Mean loss of the step's rows, in nats (squared units for numbers). */
      readonly loss: number;
      readonly learning_rate: number;
      /** L2 norm of all gradients before clipping. */
      readonly grad_norm: number;
      /** From the end of the step before to the end of this one. */
      readonly examples_per_second: number;
      readonly tokens_per_second: number;
      /** Seconds since the start of training. */
      readonly seconds: number;
    }
  | {
      readonly event: "eval";
      readonly step: number;
      readonly loss: number;
      readonly metrics: Metrics;
      readonly best: boolean;
      readonly seconds: number;
    }
  | { readonly event: "checkpoint"; readonly step: number; readonly checkpoint: string }
  | { readonly event: "interrupted"; readonly step: number; readonly checkpoint: string | null }
  | {
      readonly event: "end";
      readonly step: number;
      /** The last step, or the best evaluation that early stopping restored. */
      readonly restored_step: number;
      readonly stopped_early: boolean;
      readonly loss: number | null;
      readonly metrics: Metrics;
      /** Folder of the adapter; null when it is only in memory. */
      readonly adapter: string | null;
      readonly seconds: number;
      readonly peak_rss_bytes: number | null;
    };
