import { loadAdapter, loadModel } from "../node/load-model.js";
import { withBaseDtype } from "../programs/adapted-model.js";
import { withoutAdapter } from "../programs/adapter.js";
import type { BaseDtype } from "../programs/base-dtype.js";
import { type Predictor, predictor } from "../programs/pipeline.js";
import { taskNamed } from "../tasks/index.js";
import type { Output } from "./output.js";
import { printProgress } from "./progress.js";

/** A predictor for the flags `--model --adapter --task`; `close` ends its runtime. */
export async function openPredictor(
  output: Output,
  {
    model: name,
    adapter,
    task,
    threads,
    base_dtype,
  }: {
    readonly model: string;
    readonly adapter: string | null;
    readonly task: string | null;
    readonly threads: number | null;
    readonly base_dtype: BaseDtype | "auto";
  },
): Promise<Predictor & { close(): Promise<void> }> {
  const options = { onProgress: printProgress(output), threads: threads ?? undefined };
  const model = await loadModel(name, options);
  try {
    const adapted =
      adapter === null
        ? withoutAdapter(model, taskNamed(task ?? "text-classification"))
        : await loadAdapter(model, adapter, { ...options, task: task ?? undefined });
    const stored = withBaseDtype(model, "attachment" in adapted ? adapted.head : adapted, base_dtype);
    if (base_dtype === "auto") output.note(`frozen matrices stored as ${stored.baseDtype}`);
    return { ...(await predictor(stored, adapted)), close: () => model.close() };
  } catch (error) {
    await model.close();
    throw error;
  }
}
