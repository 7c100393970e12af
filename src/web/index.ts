// The public API in a browser: everything of the part that runs anywhere, and ONNX Runtime on WebAssembly.
export * from "../index.js";
export { type WebRuntimeOptions, webRuntime } from "../runtime/web.js";
export { urlFiles } from "./url-files.js";
