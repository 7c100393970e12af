import { expect } from "vitest";
import { f32 } from "../src/core/tensor.js";
import { packTexts } from "../src/data/collate.js";
import { trainGraph } from "../src/programs/adapted-model.js";
import type { Adapter } from "../src/programs/adapter.js";
import type { BaseModel } from "../src/programs/base-model.js";
import { loadProgram, type Params, type Program, paramsOf } from "../src/programs/program.js";
import type { Example } from "../src/tasks/task.js";
import { AdamW, accumulate, clipGradNorm } from "../src/train/optimizer.js";
import { learningRateAt, type ScheduleType } from "../src/train/schedule.js";

/** What ten steps of training are given, as golden/README.md describes it. */
export interface TenSteps {
  readonly micro_batches: readonly number[];
  readonly training: {
    readonly learning_rate: number;
    readonly betas: readonly [number, number];
    readonly eps: number;
    readonly weight_decay: number;
    readonly lr_scheduler_type: ScheduleType;
    readonly warmup_steps: number;
    readonly total_steps: number;
    readonly max_grad_norm: number;
  };
  readonly batches: readonly (readonly { readonly ids: number[]; readonly token_type_ids: number[]; readonly label: number }[])[];
}

/** The training step as the trainer takes it, on given batches. Changes the adapter's values. */
export async function trainTenSteps(model: BaseModel, adapter: Adapter, { batches, micro_batches, training }: TenSteps) {
  const { head, attachment, params } = adapter;
  const graph = trainGraph(model, head, [attachment], "off");
  const program = await loadProgram(model, graph);
  const trained = paramsOf(graph).flatMap(({ leaf }) => (leaf.trained ? [{ ...leaf, values: params.get(leaf.path)!.data }] : []));
  const optimizer = new AdamW(trained, training);
  const losses: number[] = [];
  const norms: number[] = [];
  const gradients = new Map<string, Float32Array>();

  const lossOf = async (rows: TenSteps["batches"][number], of: number): Promise<Awaited<ReturnType<Program["run"]>>> => {
    const examples = rows.map(
      ({ ids, token_type_ids, label }): Example => ({
        ids: Int32Array.from(ids),
        typeIds: Int32Array.from(token_type_ids),
        labels: [label],
        truncated: false,
      }),
    );
    const packed = packTexts(examples);
    const lossScale = f32([1 / of], []);
    return program.run({
      batch: { ...packed.feeds, ...head.task.feeds(packed, examples, head.target), lossScale },
      params: params as Params,
    });
  };
  for (const [step, batch] of batches.entries()) {
    let loss = 0;
    const grads = trained.map(({ values }) => new Float32Array(values.length));
    let first = 0;
    for (const size of micro_batches) {
      const results = await lossOf(batch.slice(first, first + size), batch.length);
      loss += Number(results.loss!.data[0]);
      accumulate(
        grads,
        trained.map(({ path }) => results[`grad:${path}`]!.data as Float32Array),
      );
      first += size;
    }
    expect(first).toBe(batch.length);
    if (step === 0) for (const [i, { path }] of trained.entries()) gradients.set(path, grads[i]!.slice());
    losses.push(loss);
    norms.push(clipGradNorm(grads, training.max_grad_norm));
    optimizer.step(grads, learningRateAt(step, { type: training.lr_scheduler_type, ...training }));
  }
  const finalLoss = Number((await lossOf(batches[0]!, batches[0]!.length)).loss!.data[0]);
  await program.dispose();
  return { losses, norms, gradients, finalLoss, trained };
}

/** The largest distance between numbers at the same place. */
export function farthest(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let most = 0;
  for (let i = 0; i < expected.length; i++) most = Math.max(most, Math.abs(actual[i]! - expected[i]!)); // NaN if there is one
  return most;
}
