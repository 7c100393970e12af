// The public API that runs anywhere: no Node built-in is reached from here.
export type { ChatMessage, ChatTemplate } from "./data/chat.js";
export { parseCsv, parseJsonl, parseParquet, type Row, type RowTable } from "./data/rows.js";
export * from "./errors.js";
export { type BatchSurroundings, generateAll } from "./generate/batches.js";
export {
  type FinishReason,
  type GeneratedText,
  type GenerateSurroundings,
  generate as generateTexts,
  type Prompt,
  type TextPiece,
} from "./generate/generate.js";
export { type GenerationOptions, generationOptions } from "./generate/options.js";
export { chatPrompt } from "./generate/prompts.js";
export type { Files } from "./io/files.js";
export { memoryFiles } from "./io/memory-files.js";
export { methodChoice, methodNamed, methods } from "./methods/index.js";
export type { Method } from "./methods/method.js";
export { type Adapter, loadAdapter as loadAdapterFiles, withoutAdapter } from "./programs/adapter.js";
export { adapterFiles } from "./programs/adapter-files.js";
export type { BaseDtype } from "./programs/base-dtype.js";
export { type BaseModel, openBaseModel } from "./programs/base-model.js";
export { callable, type Pipeline } from "./programs/callable.js";
export { type CombineInput, combinationNamed, combinations } from "./programs/combine.js";
export { exchange, type NamedAdapter } from "./programs/compose.js";
export type { Decoder, Decoding } from "./programs/decode.js";
export { mergedWeights, unmergedWeights } from "./programs/merge.js";
export { configWithHead, configWithoutHead, modelFiles } from "./programs/model-files.js";
export { type Predictor, predictor } from "./programs/pipeline.js";
export { type CallOptions, type LoadedAdapter, type PipelineInput, Switchboard, type SwitchboardOptions } from "./programs/switchboard.js";
export type { Runtime, Session } from "./runtime/session.js";
export { taskNamed, tasks } from "./tasks/index.js";
export type { Metrics, Prediction, Target, Task } from "./tasks/task.js";
export type { TrainEvent } from "./train/events.js";
export { type TrainingOptions, trainingOptions } from "./train/options.js";
export { type TrainInput, type TrainResult, train as trainLoop } from "./train/trainer.js";
export { version } from "./version.js";
