import { type ChatMessage, requireChatTemplate } from "../data/chat.js";
import { chatMessages } from "../data/chat-turns.js";
import type { RowTable } from "../data/rows.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { DataError, UsageError } from "../errors.js";
import { missingColumn, textColumn } from "../tasks/columns.js";
import type { Prompt } from "./generate.js";

/** A row's prompt, and what should follow it where the row says so. */
export interface PromptRow {
  readonly prompt: Prompt;
  readonly answer: string | undefined;
}

/** How prompts that are texts are taken. */
export interface PromptForm {
  /** As what a user says, in the model's chat template, instead of as they are. */
  readonly chat: boolean;
  /** What a system message before them says. */
  readonly system?: string | null | undefined;
}

/**
 * The tokens of a conversation up to where the assistant answers, as the model's chat template has it. Throws ModelError for a tokenizer without
 * a template, DataError where the template refuses the messages.
 */
export function chatPrompt(tokenizer: Tokenizer, messages: readonly ChatMessage[]): readonly number[] {
  const text = requireChatTemplate(tokenizer).render(messages, { addGenerationPrompt: true });
  return [...tokenizer.encode(text, { addSpecialTokens: false }).ids]; // the template writes them itself
}

/** A text as a prompt. Throws UsageError for a system message where there is no conversation, and as `chatPrompt` does. */
export function textPrompt(tokenizer: Tokenizer, text: string, { chat, system }: PromptForm): Prompt {
  if (chat) return chatPrompt(tokenizer, [...systemMessage(system), { role: "user", content: text }]);
  if (system == null) return text;
  throw new UsageError("a text that is continued as it is has no system message", { hint: "--chat takes prompts as what a user says" });
}

/**
 * The prompt of a row of `messages` (without the assistant's answer at their end), of `prompt`, a text or messages, or of `text`; the answer is
 * the assistant's last message or the `completion`. Throws DataError with file and line.
 */
export function promptRow(table: RowTable, index: number, tokenizer: Tokenizer, form: PromptForm): PromptRow {
  const { messages, prompt, completion } = table.rows[index]!;
  const isChat = messages !== undefined && messages !== null;
  const said = isChat ? messages : Array.isArray(prompt) ? [prompt, completion ?? []].flat() : undefined;
  if (said === undefined) {
    const text = textColumn(table, index, "prompt") ?? textColumn(table, index, "text");
    if (text === undefined) throw missingColumn(table, index, "prompt");
    return { prompt: textPrompt(tokenizer, text, form), answer: textColumn(table, index, "completion") };
  }
  try {
    const all = chatMessages(said, isChat ? "messages" : "prompt");
    const last = all.at(-1);
    const answered = last?.role === "assistant" && typeof last.content === "string";
    const open = [...(all[0]?.role === "system" ? [] : systemMessage(form.system)), ...(answered ? all.slice(0, -1) : all)];
    return { prompt: chatPrompt(tokenizer, open), answer: answered ? String(last.content) : undefined };
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    throw new DataError(`${table.where(index)}: ${error.message}`, { hint: error.hint, cause: error });
  }
}

/** The system message that opens a conversation; none without a text. */
export function systemMessage(system: string | null | undefined): readonly ChatMessage[] {
  return system == null ? [] : [{ role: "system", content: system }];
}
