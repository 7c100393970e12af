import { loadAdapter, loadModel } from "../node/load-model.js";
import { withBaseDtype } from "../programs/adapted-model.js";
import { withoutAdapter } from "../programs/adapter.js";
import type { BaseDtype } from "../programs/base-dtype.js";
import type { Decoder } from "../programs/decode.js";
import { type Predictor, predictor } from "../programs/pipeline.js";
import { Switchboard } from "../programs/switchboard.js";
import { taskNamed } from "../tasks/index.js";
import type { Output } from "./output.js";
import { printProgress } from "./progress.js";

/** A predictor with a runtime of its own. */
export interface OpenPredictor extends Predictor {
  /** What continues texts, with the same adapter. Throws as Switchboard's does. */
  decoder(): Promise<Decoder>;
  close(): Promise<void>;
}

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
): Promise<OpenPredictor> {
  const options = { onProgress: printProgress(output), threads: threads ?? undefined };
  const model = await loadModel(name, options);
  try {
    const adapted =
      adapter === null
        ? withoutAdapter(model, taskNamed(task ?? "text-classification"))
        : await loadAdapter(model, adapter, { ...options, task: task ?? undefined });
    const stored = withBaseDtype(model, "attachment" in adapted ? adapted.head : adapted, base_dtype);
    if (base_dtype === "auto") output.note(`frozen matrices stored as ${stored.baseDtype}`);
    const decoder = async (): Promise<Decoder> => {
      const board = new Switchboard(stored, { task: "text-generation" });
      if ("attachment" in adapted) await board.load("default", adapted);
      return board.decoder({ adapter: "attachment" in adapted ? "default" : null });
    };
    return { ...predictor(stored, adapted), decoder, close: () => model.close() };
  } catch (error) {
    await model.close();
    throw error;
  }
}
