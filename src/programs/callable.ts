import type { Prediction } from "../tasks/task.js";
import type { Adapter } from "./adapter.js";
import type { CallOptions, PipelineInput, Switchboard } from "./switchboard.js";

/** A switchboard that is called like a function, as in transformers.js: one prediction for one row, a list for a list. */
export interface Pipeline extends Pick<Switchboard, "adapters" | "active" | "use" | "unload" | "dispose"> {
  (input: PipelineInput, options?: CallOptions): Promise<Prediction>;
  (inputs: readonly PipelineInput[], options?: CallOptions): Promise<readonly Prediction[]>;
  /** Reads an adapter from where its files are, and adds it under a name. `task` is needed only where nothing in the files names one. */
  load(name: string, place: string, task?: string): Promise<void>;
}

/**
 * A callable around a switchboard; `open` reads an adapter from where `load` says that it is, `close` ends what is to end with the switchboard,
 * such as the model.
 */
export function callable(
  board: Switchboard,
  open: (place: string, task: string | undefined) => Promise<Adapter>,
  close: () => Promise<void> = async () => {},
): Pipeline {
  async function predict(input: PipelineInput, options?: CallOptions): Promise<Prediction>;
  async function predict(inputs: readonly PipelineInput[], options?: CallOptions): Promise<readonly Prediction[]>;
  async function predict(
    input: PipelineInput | readonly PipelineInput[],
    options?: CallOptions,
  ): Promise<Prediction | readonly Prediction[]> {
    if (isList(input)) return board.predict(input, options);
    return (await board.predict([input], options))[0]!;
  }
  const { adapters, active } = board;
  const pipeline = Object.assign(predict, {
    adapters,
    active,
    use: (name: string | null) => board.use(name),
    load: async (name: string, place: string, task?: string) => board.load(name, await open(place, task)),
    unload: (name: string) => board.unload(name),
    dispose: async () => {
      await board.dispose();
      await close();
    },
  });
  // What changes is asked for each time.
  return Object.defineProperties(pipeline, { adapters: { get: () => board.adapters }, active: { get: () => board.active } });
}

function isList(input: PipelineInput | readonly PipelineInput[]): input is readonly PipelineInput[] {
  return Array.isArray(input);
}
