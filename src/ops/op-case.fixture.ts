import type { OpDef, Value } from "../core/graph.js";
import type { Tensor } from "../core/tensor.js";
import type { At, Reference } from "./reference.fixture.js";

/** One op on given inputs, with what it should give. Float inputs are differentiated unless they are `fixed`. */
export interface OpCase<K extends string = string> {
  readonly op: OpDef;
  readonly title: string;
  readonly inputs: Readonly<Record<K, Tensor>>;
  /** Symbolic shapes of inputs, and the sizes of their symbols. */
  readonly shapes?: Readonly<Record<string, Value["shape"]>>;
  readonly sizes?: Readonly<Record<string, number>>;
  /** Float inputs without a gradient. */
  readonly fixed?: readonly NoInfer<K>[];
  readonly tolerance?: number;
  /** Whether the op rounds, and its gradient is by definition not that of central differences: a test of its own checks it. */
  readonly straightThrough?: true;
  build(values: Readonly<Record<K, Value>>): Value;
  /** The value in plain JavaScript. */
  reference(inputs: Readonly<Record<K, At>>): Reference;
}

/** A case with its inputs' names checked. */
export const opCase = <K extends string>(definition: OpCase<K>): OpCase => definition;
