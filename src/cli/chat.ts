import { createInterface } from "node:readline";
import * as z from "zod";
import { requireChatTemplate } from "../data/chat.js";
import { PeftError } from "../errors.js";
import { type Conversation, conversation } from "../generate/conversation.js";
import { generationFields, generationPart } from "../generate/options.js";
import { openBoard } from "../node/generate.js";
import { loadModel } from "../node/load-model.js";
import type { Switchboard } from "../programs/switchboard.js";
import { languageModelFlags } from "./model-flags.js";
import type { Output } from "./output.js";
import { printProgress } from "./progress.js";
import { type Dialogue, verb } from "./verb.js";

const flagShape = {
  ...languageModelFlags,
  adapter: z
    .record(z.string(), z.string())
    .default({})
    .meta({ description: "adapters as name=path, or a path alone; the first is in use from the start", named_by_path: true }),
  ...generationFields,
};

const help = [
  "/adapter NAME   answer with this adapter from now on; /adapter none: with the model as it is",
  "/adapter        list the adapters",
  "/reset          forget the conversation",
  "/help           show this",
  "/exit           leave (also Ctrl-D, or Ctrl-C at the prompt; Ctrl-C during an answer ends the answer)",
];

/** `peft chat`: a conversation on the terminal, or of the lines that a pipe gives. */
export const chatVerb = verb({
  name: "chat",
  summary: "talk with a language model, adapters switched as you like",
  examples: [
    "peft chat --model smollm2-135m",
    "peft chat --model smollm2-135m --adapter formal=adapters/formal --adapter short=adapters/short --temperature 0.7",
  ],
  flags: flagShape,
  interruption: "own",
  async run(output, options, _, signal, dialogue) {
    const loading = { onProgress: printProgress(output), threads: options.threads ?? undefined, signal };
    const model = await loadModel(options.model, loading);
    try {
      requireChatTemplate(model.tokenizer);
      const board = await openBoard(model, Object.entries(options.adapter), loading, options.base_dtype);
      board.use(Object.keys(options.adapter)[0] ?? null);
      await board.decoder().load(); // what it refuses is refused before anything is asked
      return await talk(output, board, conversation(board, generationPart(options), options.system), dialogue);
    } finally {
      await model.close();
    }
  },
});

/** Reads lines until there are no more, or the user leaves. */
async function talk(
  output: Output,
  board: Switchboard,
  session: Conversation,
  { stdin, terminal, onInterrupt }: Dialogue,
): Promise<number> {
  const { dim } = output.notePaint;
  const lines = createInterface({ input: stdin, ...(terminal === undefined ? {} : { output: terminal, terminal: true }) });
  const typed: string[] = [];
  let closed = false;
  let wake = (): void => {};
  let answering: AbortController | undefined;
  const interrupt = (): void => {
    if (answering === undefined) lines.close();
    else answering.abort();
  };
  lines.on("line", (line) => {
    typed.push(line);
    wake();
  });
  lines.on("close", () => {
    closed = true;
    wake();
  });
  lines.on("SIGINT", interrupt);
  onInterrupt(interrupt);
  const next = async (): Promise<string | undefined> => {
    lines.setPrompt(output.paint.bold(`${board.active ?? ""}> `));
    if (terminal !== undefined && typed.length === 0) lines.prompt();
    while (typed.length === 0 && !closed) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    return typed.shift();
  };

  if (terminal !== undefined) output.note(dim(`${inUse(board)}. /help lists commands, /exit leaves.`));
  for (let line = await next(); line !== undefined; line = await next()) {
    const text = line.trim();
    if (text === "") continue;
    if (text === "/exit" || text === "/quit") break;
    if (text.startsWith("/")) {
      command(output, board, session, text);
      continue;
    }
    answering = new AbortController();
    try {
      await answer(output, session, text, answering.signal);
    } catch (error) {
      if (!(error instanceof PeftError)) throw error;
      output.note(`${error.message}${error.hint === undefined ? "" : `\n${dim(error.hint)}`}`);
    } finally {
      answering = undefined;
    }
  }
  lines.close();
  return 0;
}

/** One answer, as it comes; with --json a document when it is whole. */
async function answer(output: Output, session: Conversation, text: string, signal: AbortSignal): Promise<void> {
  const began = performance.now();
  const loop = session.say(text, signal);
  for (let step = await loop.next(); ; step = await loop.next()) {
    if (step.done !== true) {
      output.stream(step.value);
      continue;
    }
    const { text: answered, ids, finish_reason } = step.value;
    output.say("");
    output.emit({
      text: answered,
      tokens: ids.length,
      tokens_per_second: (1000 * ids.length) / (performance.now() - began),
      finish_reason,
    });
    if (finish_reason === "length") output.note(output.notePaint.dim("(cut at --max-new-tokens)"));
    if (finish_reason === "aborted") output.note(output.notePaint.dim("(stopped)"));
    return;
  }
}

/** A line that begins with "/". */
function command(output: Output, board: Switchboard, session: Conversation, line: string): void {
  const [name, ...rest] = line.split(/\s+/);
  const wanted = rest.join(" ");
  if (name === "/help") for (const each of help) output.note(each);
  else if (name === "/reset") {
    session.reset();
    output.note("the conversation starts anew");
  } else if (name === "/adapter" && wanted === "") {
    const names = board.adapters.map((each) => `${each.name} (${each.method})`);
    output.note(`${inUse(board)}; there are: ${["none", ...names].join(", ")}`);
  } else if (name === "/adapter") {
    try {
      board.use(wanted === "none" ? null : wanted);
      output.note(inUse(board));
    } catch (error) {
      if (!(error instanceof PeftError)) throw error;
      output.note(error.message);
    }
  } else output.note(`there is no command ${name}; /help lists them`);
}

function inUse(board: Switchboard): string {
  return board.active === null ? "the model as it is" : `adapter ${board.active}`;
}
