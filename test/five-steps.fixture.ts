import type { Row } from "../src/data/rows.js";
import { rowTable } from "../src/data/rows.js";
import type { Files } from "../src/io/files.js";
import { methodNamed } from "../src/methods/index.js";
import { openBaseModel } from "../src/programs/base-model.js";
import type { Runtime } from "../src/runtime/session.js";
import { taskNamed } from "../src/tasks/index.js";
import { trainingOptions } from "../src/train/options.js";
import { train } from "../src/train/trainer.js";

/** What five steps of training gave. */
export interface FiveSteps {
  readonly losses: readonly number[];
  readonly gradNorms: readonly number[];
  readonly evalLoss: number | null;
}

/** Trains LoRA, with dropout everywhere, for five steps. Runs anywhere: the same call is made on Node and in a browser. */
export async function fiveSteps(files: Files, runtime: Runtime, rows: readonly Row[]): Promise<FiveSteps> {
  const model = await openBaseModel(files, { id: "tiny", runtime });
  const method = methodNamed("lora");
  const loop = train({
    model,
    task: taskNamed("text-classification"),
    method,
    config: method.config.parse({ r: 4, lora_dropout: 0.1, target_modules: "all-linear" }),
    rows: rowTable(rows, "rows"),
    options: trainingOptions.parse({ max_steps: 5, batch_size: 8, learning_rate: 1e-2, gradient_accumulation_steps: 2, dropout: "model" }),
    now: () => performance.now() / 1000,
  });
  const losses: number[] = [];
  const gradNorms: number[] = [];
  for (;;) {
    const { value, done } = await loop.next();
    if (done === true) return { losses, gradNorms, evalLoss: value.loss };
    if (value.event !== "step") continue;
    losses.push(value.loss);
    gradNorms.push(value.grad_norm);
  }
}
