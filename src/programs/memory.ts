import type { BaseModel } from "./base-model.js";
import { countParameters, weightBytes } from "./program.js";
import type { TrainingPlan } from "./training-plan.js";
import { fedBytes, peakBytes } from "./work.js";

/** What training needs in memory at its peak, estimated; all in bytes. */
export interface MemoryEstimate {
  /** Rows in a batch, and tokens in each text: all texts are taken to be this long, which is the worst case. */
  readonly batch_size: number;
  readonly max_length: number;
  /** Node with ONNX Runtime loaded, the tokenizer and the sessions' own bookkeeping, before any weights. */
  readonly process_bytes: number;
  /** Frozen weights as the runtime keeps them. */
  readonly weights_bytes: number;
  /** Their matrices laid out for the products, where training does so. */
  readonly laid_out_bytes: number;
  /** What reading the weights leaves behind until the memory is collected. */
  readonly reading_bytes: number;
  /** Trained parameters with the copies that a step and a checkpoint make, and AdamW's two moments. */
  readonly trained_bytes: number;
  /** The most that a training step's values take at once, and what is fed to it. */
  readonly activations_bytes: number;
  /** The same for the evaluation, whose memory comes on top. */
  readonly evaluation_bytes: number;
  readonly total_bytes: number;
}

/** Resident size of `node` with this program, ONNX Runtime and a session loaded, in bytes; measured on Linux x64. */
const processBytes = 130e6;
/** A tokenizer's bytes for each token of the vocabulary: measured 1.2 kB (WordPiece, 30522 tokens) and 1.6 kB (BPE with merges, 49152). */
const bytesPerToken = 1400;
/** Buffers that V8 has not collected yet: it begins to when there are so many bytes of them, about. */
const mostUncollected = 100e6;
/**
 * Copies of each trained parameter: itself, AdamW's two moments, what goes to the runtime and comes back as gradients and is not collected yet, and
 * what a checkpoint writes. Measured in one case: full fine-tuning of MiniLM, 8 texts of 128 tokens.
 */
const trainedCopies = 11;
/** Resident bytes for each byte that values take: the allocator's rounding and gaps. */
const slack = 1.08;

/**
 * Estimates the peak of a training's resident memory. What a step's values take is found by walking the graph in the order of its nodes and dropping
 * each value after its last use; the constants are measured (docs/training.md). ONNX Runtime's order differs a little: a guide, not a bound.
 */
export function estimateMemory(model: BaseModel, plan: TrainingPlan): MemoryEstimate {
  const { graph, sizes, use } = plan;
  const { kept, laidOut, converted } = weightBytes(model, graph, use);
  const parts = {
    process_bytes: processBytes + bytesPerToken * model.tokenizer.vocabSize,
    weights_bytes: kept,
    laid_out_bytes: laidOut,
    reading_bytes: Math.min(mostUncollected, converted),
    trained_bytes: trainedCopies * 4 * countParameters(graph).trained_parameters,
    activations_bytes: slack * peakBytes(graph, sizes) + 2 * fedBytes(graph, sizes),
    evaluation_bytes: slack * peakBytes(plan.evaluation, plan.evaluationSizes),
  };
  return {
    batch_size: plan.batch_size,
    max_length: plan.max_length,
    ...parts,
    total_bytes: Object.values(parts).reduce((sum, part) => sum + part, 0),
  };
}
