// The public API on Node: everything of the browser-safe part, and what needs files, processes and threads.

export { readRows } from "../data/read-rows.js";
export * from "../index.js";
export { directory } from "../io/directory.js";
export { nodeRuntime } from "../runtime/node.js";
export { type Combined, combine } from "./combine.js";
export { type Compared, compare } from "./compare.js";
export { type Exported, exportAdapter } from "./export.js";
export { type GenerateInput, generate } from "./generate.js";
export { type LoadedModel, type LoadOptions, loadAdapter, loadModel } from "./load-model.js";
export { type Merged, merge, type Unmerged, unmerge } from "./merge.js";
export { type PipelineOptions, pipeline } from "./pipeline.js";
export { type TrainedAdapter, type TrainOptions, train } from "./train.js";
