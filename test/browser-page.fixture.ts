// The script of the page that browser.test.ts opens: the model comes over HTTP, ONNX Runtime's WebAssembly too.
import { urlFiles, webRuntime } from "../src/web/index.js";
import { type FiveSteps, fiveSteps } from "./five-steps.fixture.js";

declare global {
  var trainHere: () => Promise<FiveSteps>;
}

globalThis.trainHere = async () => {
  const runtime = webRuntime({ wasmPaths: new URL("ort/", location.href).href });
  try {
    const rows = await (await fetch("rows.json")).json();
    return await fiveSteps(urlFiles(new URL("model", location.href)), runtime, rows);
  } finally {
    await runtime.close();
  }
};
