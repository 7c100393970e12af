import { fillDropoutMask, keyOf } from "../core/random.js";
import type { BaseModel } from "../programs/base-model.js";
import { type GraphTime, timeGraph } from "../programs/calibration.js";
import { countParameters } from "../programs/program.js";
import type { TrainingPlan } from "../programs/training-plan.js";
import { maskNumbers } from "../programs/work.js";
import { AdamW, clipGradNorm } from "./optimizer.js";

/** Seconds that an optimiser step of one batch takes, predicted from this machine's speed now. */
export interface StepTime extends GraphTime {
  /** Drawing dropout's noise, before the graph runs. */
  readonly noise_seconds: number;
  /** Handing the parameters over, clipping the gradients and AdamW's update. */
  readonly optimizer_seconds: number;
  readonly step_seconds: number;
}

/** Numbers on which what is not the runtime's work is timed, at most. */
const timedNumbers = 2 ** 20;

/** Predicts the time of a step by timing its kinds of work for a second or two. Good for this minute: what else the machine does counts. */
export async function predictStepTime(runtime: BaseModel["runtime"], plan: TrainingPlan): Promise<StepTime> {
  const graph = await timeGraph(runtime, plan);
  const optimizer = forNumbers(countParameters(plan.graph).trained_parameters, (numbers) => {
    const [values, grads] = [new Float32Array(numbers).fill(1), new Float32Array(numbers).fill(1)];
    const adam = new AdamW([{ path: "timed", values, lr_scale: 1, decay: true }]);
    return () => {
      for (const sent of [values, grads]) structuredClone(sent); // as messages to and from the runtime's thread do
      clipGradNorm([grads], 1);
      adam.step([grads], 1e-3);
    };
  });
  const noise = forNumbers(maskNumbers(plan.graph, plan.sizes), (numbers) => {
    const mask = new Float32Array(numbers);
    return () => {
      fillDropoutMask(mask, keyOf(0, "dropout"), 0.1);
      structuredClone(mask);
    };
  });
  const step = graph.products_seconds + graph.other_seconds + noise + optimizer;
  return { ...graph, noise_seconds: noise, optimizer_seconds: optimizer, step_seconds: step };
}

/** Seconds of work on so many numbers, from the fastest of a few times on fewer. */
function forNumbers(numbers: number, prepare: (numbers: number) => () => void): number {
  if (numbers === 0) return 0;
  const timed = Math.min(numbers, timedNumbers);
  const work = prepare(timed);
  const seconds = Array.from({ length: 5 }, () => {
    const began = performance.now();
    work();
    return (performance.now() - began) / 1000;
  });
  return (Math.min(...seconds) * numbers) / timed;
}
