import { type ChatMessage, requireChatTemplate } from "../data/chat.js";
import type { Tokenizer } from "../data/tokenizer.js";

/**
 * The tokens of a conversation up to where the assistant answers, as the model's chat template has it. Throws ModelError for a tokenizer without
 * a template, DataError where the template refuses the messages.
 */
export function chatPrompt(tokenizer: Tokenizer, messages: readonly ChatMessage[]): readonly number[] {
  const text = requireChatTemplate(tokenizer).render(messages, { addGenerationPrompt: true });
  return [...tokenizer.encode(text, { addSpecialTokens: false }).ids]; // the template writes them itself
}
