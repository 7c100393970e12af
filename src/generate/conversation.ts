import type { ChatMessage } from "../data/chat.js";
import type { Switchboard } from "../programs/switchboard.js";
import { type GeneratedText, generate } from "./generate.js";
import type { GenerationOptions } from "./options.js";
import { chatPrompt, systemMessage } from "./prompts.js";

/** A conversation with a model, whichever of its adapters is in use. */
export interface Conversation {
  /** What was said so far, the system message first where there is one. */
  readonly messages: readonly ChatMessage[];
  /**
   * Says something, yields the answer in pieces and returns it. Both are part of what was said from then on, also of an answer that the signal
   * ended; where it fails, neither is. Throws as `generate` and `chatPrompt` do.
   */
  say(text: string, signal?: AbortSignal): AsyncGenerator<string, GeneratedText>;
  /** Forgets what was said but for the system message. */
  reset(): void;
}

/** A new conversation. `seed` is the first answer's; the next ones draw by the numbers after it. */
export function conversation(board: Switchboard, options: GenerationOptions, system?: string | null): Conversation {
  const start = systemMessage(system);
  let messages = start;
  return {
    get messages() {
      return messages;
    },
    async *say(text, signal) {
      const decoder = board.decoder();
      const said = [...messages, { role: "user", content: text }];
      const answers = (said.length - start.length - 1) / 2;
      const loop = generate(decoder, [chatPrompt(decoder.model.tokenizer, said)], options, { signal, places: [answers] });
      for (let step = await loop.next(); ; step = await loop.next()) {
        if (step.done !== true) {
          yield step.value.piece;
          continue;
        }
        const [answer] = step.value as readonly [GeneratedText];
        messages = [...said, { role: "assistant", content: answer.text }];
        return answer;
      }
    },
    reset() {
      messages = start;
    },
  };
}
