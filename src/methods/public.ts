// `peft.js/methods`: what a file needs that defines a method, within this project or outside. docs/add-a-method.md shows how.

export * as z from "zod";
export type { Layout } from "../core/batch.js";
export type { Dim } from "../core/dims.js";
export { constant, type Value } from "../core/graph.js";
export * from "../core/initializer.js";
export { fillNormal, fillUniform, type RandomKey } from "../core/random.js";
export { f32, type Tensor } from "../core/tensor.js";
export { AttachError, ConfigError } from "../errors.js";
export { activation } from "../ops/activation.js";
export { add, detach, div, exp, log, mul, neg, relu, scalar, scale, sigmoid, sqrt, sub, tanh } from "../ops/elementwise.js";
export { gemm, linear, matmul } from "../ops/linear.js";
export { concat, expand, gather, reshape, slice, transpose } from "../ops/movement.js";
export { softmax, sum } from "../ops/reduce.js";
export { biasFiles, trainsBias } from "./base-bias.js";
export type * from "./method.js";
export { plainFormat } from "./plain-format.js";
export { checkLayers, compactTargets, layerFields, matchTargets, patternValue, publishedTargets, targetFields } from "./targets.js";
export { tunerFormat } from "./tuner-format.js";
