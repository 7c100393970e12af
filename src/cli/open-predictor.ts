import { loadAdapter, loadModel } from "../node/load-model.js";
import { withoutAdapter } from "../programs/adapter.js";
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
  }: { readonly model: string; readonly adapter: string | null; readonly task: string | null; readonly threads: number | null },
): Promise<Predictor & { close(): Promise<void> }> {
  const options = { onProgress: printProgress(output), threads: threads ?? undefined };
  const model = await loadModel(name, options);
  try {
    const adapted =
      adapter === null
        ? withoutAdapter(model, taskNamed(task ?? "text-classification"))
        : await loadAdapter(model, adapter, { ...options, task: task ?? undefined });
    return { ...(await predictor(model, adapted)), close: () => model.close() };
  } catch (error) {
    await model.close();
    throw error;
  }
}
