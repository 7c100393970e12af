import { DataError } from "../errors.js";
import { isRecord } from "../io/json.js";
import { type ChatMessage, type ChatTemplate, requireChatTemplate, type Span } from "./chat.js";
import type { Tokenizer } from "./tokenizer.js";

/** Which of a conversation's turns are learned. */
export interface TurnChoice {
  /** All tokens are, whoever says them. */
  readonly all: boolean;
  /** Only the last of the assistant's turns is. */
  readonly lastOnly: boolean;
  /** The first message, from 0, that may be learned. */
  readonly from: number;
}

/** A conversation as tokens. */
export interface ChatEncoding {
  /** Ids of the rendered text, which holds its special tokens itself; [T]. */
  readonly ids: Int32Array;
  /** Which tokens are learned, [T]. */
  readonly learned: readonly boolean[];
  readonly text: string;
}

/** Messages from a row's column. Throws DataError for what is no list of messages; names the message, from 1. */
export function chatMessages(value: unknown, column: string): readonly ChatMessage[] {
  if (!Array.isArray(value))
    throw new DataError(`"${column}" is ${shortened(JSON.stringify(value) ?? String(value))}, expected a list of messages`, { hint });
  if (value.length === 0) throw new DataError(`"${column}" holds no messages`, { hint });
  return value.map((message: unknown, i) => {
    const fault = (what: string): DataError => new DataError(`message ${i + 1} of "${column}" ${what}`, { hint });
    if (!isRecord(message)) throw fault(`is ${shortened(JSON.stringify(message))}, expected an object`);
    const { role, content } = message;
    if (typeof role !== "string" || role === "") throw fault(`has ${role === undefined ? "no role" : `the role ${JSON.stringify(role)}`}`);
    const called = message.tool_calls !== undefined && message.tool_calls !== null;
    if (content === undefined || content === null) {
      if (!called) throw fault("has no content");
    } else if (typeof content !== "string" && !Array.isArray(content)) {
      throw fault(`has the content ${shortened(JSON.stringify(content))}, expected a text`);
    } else if (role === "assistant" && !called && (typeof content === "string" ? content.trim() : content).length === 0) {
      throw fault("is an empty assistant turn: there is nothing to learn in it");
    }
    return { ...message, role };
  });
}

const hint = 'a row is {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}';

/**
 * Renders a conversation by the model's chat template, encodes the text once, and finds the tokens that are learned: those of the assistant's turns, each with its
 * end token. Where the template does not mark them itself (`{% generation %}`) a turn is what stands between two renderings: the messages before it with the
 * generation prompt, and those messages with it. Both must be the beginning of the whole text, else there is no telling what the model would have been given before the turn.
 * Throws ModelError without a usable template; DataError, with the rendered text, where turns cannot be told, nothing or everything would be learned, or no end token.
 */
export function encodeChat(tokenizer: Tokenizer, messages: readonly ChatMessage[], choice: TurnChoice): ChatEncoding {
  const template = requireChatTemplate(tokenizer);
  const text = template.render(messages);
  const ids = encodeText(tokenizer, text);
  if (choice.all) return { ids, text, learned: Array.from(ids, (_, t) => t > 0) };
  const asked = messages.flatMap(({ role }, i) => (role === "assistant" && i >= choice.from ? [i] : []));
  if (asked.length === 0)
    throw new DataError(
      `no message is the assistant's, so that nothing would be learned; roles: ${messages.map(({ role }) => role).join(", ")}`,
      {
        hint: 'the role of what is learned is "assistant"; --train-on-prompt learns from all that is said',
      },
    );
  const wanted = choice.lastOnly ? asked.slice(-1) : asked;
  const chat: Chat = { tokenizer, template, messages, text, ids };
  const turns = template.marksTurns ? markedTurns(chat, wanted) : wanted.map((index) => turnAt(chat, index));
  const learned = new Array<boolean>(ids.length).fill(false);
  for (const { start, end } of turns) learned.fill(true, Math.max(1, start), end);
  const count = learned.filter(Boolean).length;
  if (count === 0) throw new DataError(`nothing of the conversation would be learned.${shown(text)}`);
  if (count >= ids.length - 1)
    throw new DataError(`all of the conversation would be learned, nothing stands before the assistant's turns.${shown(text)}`, {
      hint: "if that is meant: --train-on-prompt",
    });
  return { ids, text, learned };
}

interface Chat {
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  readonly messages: readonly ChatMessage[];
  readonly text: string;
  readonly ids: Int32Array;
}

/** The tokens of the turn that is message `index`, found by rendering what stands before it, and up to it. */
function turnAt({ tokenizer, template, messages, text, ids }: Chat, index: number): Span {
  const name = `the assistant's turn (message ${index + 1})`;
  const until = messages.slice(0, index + 1);
  const before = renderedBefore(template, messages.slice(0, index), name);
  const through = index === messages.length - 1 ? text : template.render(until);
  if (!text.startsWith(before)) throw ambiguous(name, "what stands before it", before, text);
  if (!through.startsWith(before)) throw ambiguous(name, "what stands before it", before, through);
  // What a conversation that goes on has behind the turn; a template that closes conversations (Phi-3's end of text) has something else there.
  const goingOn = orElse(() => template.render(until, { addGenerationPrompt: true }), through);
  const throughIds = through === text ? ids : encodeText(tokenizer, through);
  const ends = goingOn.startsWith(through) ? [] : [encodeText(tokenizer, goingOn)];
  const shared = Math.min(...[ids, ...ends].map((other) => commonLength(throughIds, other)));
  if (throughIds.subarray(shared).some((id) => !isClosing(tokenizer, id))) throw ambiguous(name, "it", through, text);
  const start = commonLength(encodeText(tokenizer, before), ids);
  return { start, end: endOfTurn(tokenizer, ids, { start, end: shared }, name, text) };
}

/** The tokens of the parts that the template marks: of the last of them where only the last turn is wanted, of the last so many where the first ones are not. */
function markedTurns({ tokenizer, template, messages, text, ids }: Chat, wanted: readonly number[]): readonly Span[] {
  const { spans } = template.renderMarked(messages);
  const said = messages.filter(({ role }) => role === "assistant").length;
  if (spans.length !== said)
    throw new DataError(
      `the chat template marks ${spans.length} parts with {% generation %}, and ${said} messages are the assistant's.${shown(text)}`,
    );
  const border = (at: number): number => commonLength(encodeText(tokenizer, text.slice(0, at)), ids);
  return spans.slice(-wanted.length).map((span, i) => {
    const tokens = { start: border(span.start), end: border(span.end) };
    return { start: tokens.start, end: endOfTurn(tokenizer, ids, tokens, `the assistant's turn (message ${wanted[i]! + 1})`, text) };
  });
}

/** Behind the last special token of a turn: line breaks behind it are the template's. Throws DataError for a turn that does not end in a special token. */
function endOfTurn(tokenizer: Tokenizer, ids: Int32Array, { start, end }: Span, name: string, text: string): number {
  let last = end - 1;
  while (last >= start && !isSpecial(tokenizer, ids[last]!) && isClosing(tokenizer, ids[last]!)) last--;
  if (last === start) throw new DataError(`the chat template leaves nothing of ${name} but its end.${shown(text)}`);
  if (last > start && isSpecial(tokenizer, ids[last]!)) return last + 1;
  throw new DataError(
    `the chat template puts no special token at the end of ${name}, so that the model would not learn to stop.${shown(text)}`,
    {
      hint: 'a template that ends the assistant\'s turns with {{ eos_token }} is needed; rows with "prompt" and "completion" need none, the end token is put behind each',
    },
  );
}

function renderedBefore(template: ChatTemplate, messages: readonly ChatMessage[], name: string): string {
  try {
    return template.render(messages, { addGenerationPrompt: true });
  } catch (cause) {
    if (!(cause instanceof DataError)) throw cause;
    throw new DataError(`what stands before ${name} cannot be told: ${cause.message}`, {
      hint: messages.length === 0 ? "a conversation begins with a system's or a user's message" : cause.hint,
      cause,
    });
  }
}

function orElse(render: () => string, otherwise: string): string {
  try {
    return render();
  } catch (error) {
    if (error instanceof DataError) return otherwise; // a template that wants a user's message there
    throw error;
  }
}

/** The prefix property is broken: the same messages read otherwise within the conversation. */
function ambiguous(name: string, what: string, alone: string, whole: string): DataError {
  const at = commonLength([...alone], [...whole]);
  const around = (text: string): string => JSON.stringify([...text].slice(Math.max(0, at - 40), at + 60).join(""));
  return new DataError(
    `the chat template writes ${what} otherwise once the conversation goes on, so that ${name} cannot be told: ${around(alone)} became ${around(whole)}.${shown(whole)}`,
    {
      hint: "templates of reasoning models drop earlier thoughts, for example: write a row for each turn, ending with it, or learn the last turns only (--last-turn-only); where a single turn is refused, the model needs another chat_template.jinja",
    },
  );
}

/** The rendered text for a message, its middle left out where it is long. */
function shown(text: string): string {
  return ` The text:\n${text.length > 1200 ? `${text.slice(0, 600)}\n…\n${text.slice(-600)}` : text}`;
}

function encodeText(tokenizer: Tokenizer, text: string): Int32Array {
  return tokenizer.encode(text, { addSpecialTokens: false }).ids;
}

function isSpecial({ specialIds, eosId }: Tokenizer, id: number): boolean {
  return id === eosId || specialIds.has(id);
}

/** Whether a token may stand behind a turn that is over: special ones and white space. */
function isClosing(tokenizer: Tokenizer, id: number): boolean {
  return isSpecial(tokenizer, id) || tokenizer.decode([id]).trim() === "";
}

/** How many leading elements two lists have in common. */
function commonLength(a: ArrayLike<unknown>, b: ArrayLike<unknown>): number {
  const most = Math.min(a.length, b.length);
  let count = 0;
  while (count < most && a[count] === b[count]) count++;
  return count;
}

function shortened(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
