/** The stable codes of all errors that this library throws on purpose; the command line prints them as `error[E_…]`. */
export type ErrorCode =
  | "E_USAGE"
  | "E_SHAPE"
  | "E_GRAPH"
  | "E_CONFIG"
  | "E_WEIGHT"
  | "E_MODEL"
  | "E_ATTACH"
  | "E_DATA"
  | "E_FILE"
  | "E_CHECKPOINT"
  | "E_RUNTIME"
  | "E_NUMERIC"
  | "E_NETWORK";

/** What every error may carry besides its message. */
export interface PeftErrorOptions {
  /** The next thing to try, one sentence. */
  readonly hint?: string | undefined;
  /** The error underneath, shown by `--debug`. */
  readonly cause?: unknown;
}

/** The base of all errors thrown on purpose. `message` says what is wrong and where; `hint` says what to try next. */
export class PeftError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: PeftErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
  }
}

/** Wrong flags, arguments or verbs: the command line exits with 2. */
export class UsageError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_USAGE", message, options);
  }
}

/** Shapes that do not fit; names the op, the shapes it got and what it expected. */
export class ShapeError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_SHAPE", message, options);
  }
}

/** A graph that breaks its own rules, found by the validator. */
export class GraphError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_GRAPH", message, options);
  }
}

/** A config with an unknown key, a wrong value or fields that contradict each other. */
export class ConfigError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_CONFIG", message, options);
  }
}

/** Weight files that are corrupt, or tensors that are missing or have the wrong shape (all of them listed). */
export class WeightError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_WEIGHT", message, options);
  }
}

/** A model that cannot be used here: unsupported type, missing files. */
export class ModelError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_MODEL", message, options);
  }
}

/** A method that cannot attach: targets that match nothing, an adapter made for another base. */
export class AttachError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_ATTACH", message, options);
  }
}

/** Rows that cannot be used; names file and line. */
export class DataError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_DATA", message, options);
  }
}

/** A file or folder that is missing, unreadable or not writable. */
export class FileError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_FILE", message, options);
  }
}

/** A checkpoint that cannot be resumed: missing, damaged, or made with other options (each named). */
export class CheckpointError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_CHECKPOINT", message, options);
  }
}

/** ONNX Runtime refused a model or failed in a run. */
export class SessionError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_RUNTIME", message, options);
  }
}

/** A loss or gradient that is not a finite number. */
export class NumericError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_NUMERIC", message, options);
  }
}

/** A download that failed: no network, not found, no permission, a hash that does not agree. */
export class NetworkError extends PeftError {
  constructor(message: string, options?: PeftErrorOptions) {
    super("E_NETWORK", message, options);
  }
}

/** What was thrown, in words. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The candidate nearest to `word` by edit distance, when it is near enough to be a likely slip; for "did you mean" hints. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
