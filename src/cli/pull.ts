import { pull } from "../node/pull.js";
import { printProgress } from "./progress.js";
import { verb } from "./verb.js";
import { bytes } from "./words.js";

/** `peft pull`: makes a model's or an adapter's files present on this machine. */
export const pullVerb = verb({
  name: "pull",
  summary: "fetch a model or an adapter, and check its hash",
  examples: ["peft pull minilm", "peft pull google/bert_uncased_L-2_H-128_A-2", "peft pull org/name@revision"],
  words: [["<model>", "a catalogue name, or a hub id org/name[@revision]"]],
  flags: {},
  interruption: "tidy",
  async run(output, _, [name], signal) {
    const pulled = await pull(name!, { env: process.env, onProgress: printProgress(output), signal });
    output.emit(pulled);
    output.say(pulled.describe);
    output.say(`${pulled.files.length} files, ${bytes(pulled.bytes)}, in ${pulled.path}`);
    if (pulled.sha256 !== null) output.say(`weights' sha256 ${pulled.sha256}`);
    return 0;
  },
});
