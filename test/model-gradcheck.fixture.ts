import { expect } from "vitest";
import { fillUniform, keyOf } from "../src/core/random.js";
import { type Feeds, f32, type Tensor } from "../src/core/tensor.js";
import { packTexts } from "../src/data/collate.js";
import type { Attachment } from "../src/methods/method.js";
import { type TaskHead, trainGraph } from "../src/programs/adapted-model.js";
import type { BaseModel } from "../src/programs/base-model.js";
import { initialParams } from "../src/programs/initial-params.js";
import { packingOf } from "../src/programs/limits.js";
import { loadProgram, type Params, type ProgramInputs, paramsOf } from "../src/programs/program.js";
import type { Example } from "../src/tasks/task.js";

/** What a check of gradients is told beyond the model. */
export interface GradcheckOptions {
  /** Parameters whose gradient takes a part of the graph for constant: central differences do not give it. */
  readonly detached?: RegExp | undefined;
  /** Values of the adapters that a composition holds. */
  readonly held?: Params;
}

/**
 * Moves all trained parameters off their start, then compares the program's gradients with central differences of its loss: along a random
 * direction of all, and along one for each parameter alone, each the steeper of two. Dropout is on, with the same masks in every run.
 */
export async function gradcheck(
  model: BaseModel,
  head: TaskHead,
  attachment: Attachment,
  examples: readonly Example[],
  { detached, held = new Map() }: GradcheckOptions = {},
): Promise<void> {
  const graph = trainGraph(model, head, [attachment], 0.1);
  const program = await loadProgram(model, graph);
  const trained = paramsOf(graph).flatMap(({ leaf }) => (leaf.trained ? [leaf.path] : []));
  const initial = new Map([...(await initialParams(model, graph, 0)), ...held]);
  const packed = packTexts(examples, packingOf(model, [attachment]));
  const batch = { ...packed.feeds, ...head.task.feeds(packed, examples, head.target), lossScale: f32([1], []) };
  const runWith = (values: Params): ReturnType<typeof program.run> =>
    program.run({ batch, params: values, noise: [3, 1, 4] } satisfies ProgramInputs);
  const compared = trained.filter((path) => detached?.test(path) !== true);
  const points: { readonly params: Params; readonly results: Feeds }[] = [];
  const point = async (attempt: number): Promise<(typeof points)[number]> => {
    const known = points[attempt];
    if (known !== undefined) return known;
    const params = new Map(
      [...initial].map(([path, tensor]) => {
        const off = trained.includes(path) ? 0.1 : 0;
        return [path, moved(tensor, noise(tensor, `start ${attempt}`, path), off)] as const;
      }),
    );
    points[attempt] = { params, results: await runWith(params) };
    return points[attempt];
  };
  const slope = (results: Feeds, ways: ReadonlyMap<string, Float32Array>): number =>
    [...ways].reduce((sum, [path, way]) => sum + dot(results[`grad:${path}`]!.data as Float32Array, way), 0);
  /** The steeper of two random directions of some parameters. */
  const direction = (attempt: number, paths: readonly string[], results: Feeds): ReadonlyMap<string, Float32Array> => {
    const named = (name: string): ReadonlyMap<string, Float32Array> =>
      new Map(paths.map((path) => [path, noise(initial.get(path)!, name, path)]));
    const [one, two] = [named(`way ${attempt}`), named(`other way ${attempt}`)];
    return Math.abs(slope(results, one)) < Math.abs(slope(results, two)) ? two : one;
  };
  // a difference across a ReLU's kink is off, so other points get their turn, with smaller steps: a wrong gradient is wrong at all of them
  const compare = async (paths: readonly string[], widest: number): Promise<void> => {
    const faults: string[] = [];
    for (let attempt = 0; attempt < 5; attempt++) {
      const step = attempt === 0 ? widest : Math.max(widest / 4, 5e-4);
      const { params, results } = await point(attempt);
      const ways = direction(attempt, paths, results);
      const at = async (distance: number): Promise<number> => {
        const values = new Map(params);
        for (const [path, way] of ways) values.set(path, moved(params.get(path)!, way, distance));
        return (await runWith(values)).loss!.data[0] as number;
      };
      const numeric = ((await at(step)) - (await at(-step))) / (2 * step);
      const analytic = slope(results, ways);
      const scale = Math.max(Math.abs(numeric), 0.2); // of a sum over 16 rows: smaller slopes drown in float32's rounding
      if (Math.abs(analytic - numeric) / scale < 5e-3) return;
      faults.push(`analytic ${analytic}, numeric ${numeric}`);
    }
    expect.fail(`${paths.join(" ")}: ${faults.join("; ")}`);
  };
  await compare(compared, 1e-3);
  for (const path of compared) await compare([path], 3e-3);
  const { results } = await point(0);
  const steep = compared.filter((path) => Math.abs(slope(results, direction(0, [path], results))) > 0.2);
  expect(steep.length).toBeGreaterThan(compared.length / 10);
  await program.dispose();
}

/** Values in [-1, 1) for a tensor, by name. */
export function noise({ shape, data }: Tensor<"float32">, ...name: string[]): Float32Array {
  const values = new Float32Array(data.length);
  fillUniform(values, keyOf(11, ...name, shape.join()), -1, 1);
  return values;
}

/** A tensor moved by `step` along a direction. */
export function moved({ data, shape }: Tensor<"float32">, direction: Float32Array, step: number): Tensor<"float32"> {
  return f32(
    data.map((value, i) => value + step * direction[i]!),
    shape,
  );
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}
