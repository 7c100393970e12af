import { apply, constant, feedName, input, leaf, type Node, topological, type Value, type WeightLeaf } from "../core/graph.js";
import { type DType, i32, sizeOf, type Tensor, type TypedArrays } from "../core/tensor.js";
import type { Sized } from "../core/work.js";
import { emit } from "../onnx/emit.js";
import { add, mul, sub } from "../ops/elementwise.js";
import { gather } from "../ops/movement.js";
import type { Runtime } from "../runtime/session.js";
import { laidOutWeights } from "./program.js";
import type { TrainingPlan } from "./training-plan.js";
import { graphNodes, graphWork, type Sizes, sizer, workOf } from "./work.js";

/** What a training step's graph would take on this machine now. */
export interface GraphTime {
  /** Matrix products: seconds, and their operations, two for each multiplication with an addition. */
  readonly products_seconds: number;
  readonly product_operations: number;
  /** All else: seconds, and the bytes that it reads and writes. */
  readonly other_seconds: number;
  readonly moved_bytes: number;
}

/** Timed runs of each program, of which the median counts; one before them warms up. */
const timedRuns = 5;
/** Times that a product stands in the program that is timed. */
const copies = 3;
/** Padded places of the part of a batch on which products are timed: enough for their full speed. */
const timedPlaces = 1024;
/** Rows on which a loss over a vocabulary is timed. */
const timedRows = 128;
/** Numbers of the tensors on which elementwise work is timed, at most. */
const timedNumbers = 2 ** 22;

/**
 * Predicts a step's graph from this machine's speed now. Each distinct matrix product of the graph runs by itself, on a part of the batch and on
 * made-up numbers, and counts with its operations; all else counts with its bytes, at the speed of a few elementwise ops. No weight is read.
 */
export async function timeGraph(runtime: Runtime, { graph, use, sizes }: TrainingPlan): Promise<GraphTime> {
  const own = runtime.own();
  const [full, part] = [sizer(sizes), sizer(partOf(sizes))];
  const laidOut = laidOutWeights(graph, use);
  const kinds = new Map<string, { readonly node: Node; operations: number }>();
  for (const node of graphNodes(graph)) {
    const { product } = workOf(node, full);
    if (product === undefined) continue;
    const key = `${node.op.name} ${JSON.stringify([node.attrs, node.inputs.map(full)])}`;
    const kind = kinds.get(key) ?? { node, operations: 0 };
    kind.operations += product.operations;
    kinds.set(key, kind);
  }
  const idle = await medianSeconds(own, elementwise(1));
  const secondsOf = async (outputs: Graph): Promise<number> => Math.max(1e-9, (await medianSeconds(own, outputs)) - idle);
  let productSeconds = 0;
  for (const [number, { node, operations }] of [...kinds.values()].entries()) {
    const seconds = (await secondsOf(alone(node, part, laidOut, `timed.${number}`))) / copies;
    productSeconds += (seconds * operations) / workOf(node, part).product!.operations;
  }
  const work = graphWork(graph, sizes);
  const probe = elementwise(Math.min(timedNumbers, typicalNumbers(graph, sizes)));
  return {
    products_seconds: productSeconds,
    product_operations: Object.values(work.operations).reduce((total, each) => total + each, 0),
    other_seconds: (work.moved / graphWork(probe, {}).moved) * (await secondsOf(probe)),
    moved_bytes: work.moved,
  };
}

type Graph = Readonly<Record<string, Value>>;

/** The sizes of a few of a batch's texts. */
function partOf({ B, S, R, L }: Sizes): Sizes {
  const texts = Math.max(1, Math.min(B!, Math.floor(timedPlaces / S!)));
  return { B: texts, S: S!, A: texts, W: S!, T: texts * S!, R: (R! / B!) * texts, L: L === B ? texts : Math.min(L!, timedRows) };
}

/**
 * A graph of one node a few times over, each with a first input of its own: a run then takes long enough to be timed. Of what comes out only the
 * first rows leave the graph, so that the memory of the rest is used again as it is within a step.
 */
function alone(node: Node, sized: (value: Value) => Sized, laidOut: ReadonlySet<unknown>, path: string): Graph {
  const fed = (value: Value, name: string): Value => input(name, value.type.dtype, sized(value).shape);
  const others = node.inputs
    .slice(1)
    .map((value, i) =>
      laidOut.has(value.source) ? leaf({ kind: "weight", path: `${path}.${i}` }, sized(value)) : fed(value, `input${i}`),
    );
  return Object.fromEntries(
    Array.from({ length: copies }, (_, copy) => {
      const outputs = apply(node.op, [fed(node.inputs[0]!, `first${copy}`), ...others], node.attrs);
      return outputs.map((value, i) => [`output${copy}.${i}`, firstRow(value)] as const);
    }).flat(),
  );
}

function firstRow(value: Value): Value {
  return gather(value, constant(i32([0])));
}

/** Six elementwise ops on tensors of so many numbers. */
function elementwise(numbers: number): Graph {
  const [x, y] = ["x", "y"].map((name) => input(name, "float32", [numbers])) as [Value, Value];
  const step = (value: Value): Value => sub(mul(add(value, y), x), y);
  return { output: firstRow(step(step(x))) };
}

/** The numbers in the tensor that a byte moved outside of products belongs to, on average. */
function typicalNumbers(graph: Graph, sizes: Sizes): number {
  const sized = sizer(sizes);
  let [numbers, squares] = [0, 0];
  for (const node of graphNodes(graph)) {
    const { product, moved } = workOf(node, sized);
    if (product !== undefined || moved === 0) continue;
    const size = sizeOf(sized(node.outputs[0]!).shape);
    numbers += size;
    squares += size * size;
  }
  return Math.max(1, Math.round(squares / Math.max(1, numbers)));
}

/** The median time of a graph's runs on made-up numbers; what it gives stays with the runtime. */
async function medianSeconds(runtime: Runtime, outputs: Graph): Promise<number> {
  const { bytes, feeds, external } = emit(outputs, () => "kept");
  const weights = topological(Object.values(outputs)).filter(({ source }) => source.kind === "weight");
  await runtime.keep(Object.fromEntries(weights.map(({ source, type }) => [feedName(source as WeightLeaf)!, madeUp(type as Sized)])));
  const held = await runtime.hold(Object.fromEntries([...feeds].map(([name, { type }]) => [name, madeUp(type as Sized)])));
  const results = await runtime.hold({});
  const carried = { held: results, outputs: Object.fromEntries(Object.keys(outputs).map((name) => [name, name])) };
  const session = await runtime.createSession(bytes, external);
  const seconds: number[] = [];
  for (let run = 0; run <= timedRuns; run++) {
    const began = performance.now();
    await session.run({}, undefined, held, carried);
    if (run > 0) seconds.push((performance.now() - began) / 1000);
  }
  await Promise.all([session.dispose(), held.dispose(), results.dispose()]);
  return seconds.sort((a, b) => a - b)[seconds.length >> 1]!;
}

/** A tensor of equal numbers: products of floats and of bytes take the same time whatever the numbers are. */
function madeUp({ dtype, shape }: Sized): Tensor {
  const data = new arrays[dtype](sizeOf(shape));
  if (data instanceof BigInt64Array) data.fill(1n);
  else data.fill(1); // memory that was never written to would not be read from memory
  return { dtype, shape, data };
}

const arrays: { readonly [D in DType]: new (length: number) => TypedArrays[D] } = {
  float32: Float32Array,
  float16: Uint16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  int8: Int8Array,
  bool: Uint8Array,
};
