import { exportAdapter, exportOptions } from "../node/export.js";
import { printProgress } from "./progress.js";
import { verb } from "./verb.js";
import { bytes as sized } from "./words.js";

/** `peft export`: an adapter in another program's format. */
export const exportVerb = verb({
  name: "export",
  summary: "write a LoRA adapter for llama.cpp and Ollama, as one GGUF file",
  examples: ["peft export --model smollm2-135m-q4 --adapter my-adapter --out my-adapter.gguf"],
  flags: exportOptions.shape,
  interruption: "tidy",
  async run(output, options, _, signal) {
    const exported = await exportAdapter({ ...options, onProgress: printProgress(output), signal });
    const { out, layers, architecture, bytes } = exported;
    output.emit(exported);
    output.say(`${out}: a LoRA of ${layers.length} layers for ${architecture} models, ${sized(bytes)}`);
    output.say(`llama-cli -m BASE.gguf --lora ${out}`);
    return 0;
  },
});
