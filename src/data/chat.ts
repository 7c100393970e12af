import { Environment as LibraryEnvironment, Interpreter as LibraryInterpreter, parse, tokenize } from "@huggingface/jinja";
import { DataError, ModelError, messageOf } from "../errors.js";
import { pythonRange, pythonStrip, strftime } from "./python-text.js";

/** A message as templates see it: further fields, such as `tool_calls`, reach them as they are. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: unknown;
  readonly [field: string]: unknown;
}

/** How messages are rendered. */
export interface RenderOptions {
  /** Ends with what stands before the assistant's next turn; transformers' `add_generation_prompt`, false by default. */
  readonly addGenerationPrompt?: boolean | undefined;
  /** What `strftime_now` takes for now. */
  readonly now?: Date | undefined;
}

/** A part of a text: from its first to behind its last character, in UTF-16 units. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** A tokenizer's chat template. Gives the text that transformers' `apply_chat_template(tokenize=False)` gives. */
export interface ChatTemplate {
  /** The Jinja source. */
  readonly source: string;
  /** Whether the template itself marks what assistants say, with `{% generation %}`. */
  readonly marksTurns: boolean;
  /**
   * The text of messages. Throws ModelError for a template that is broken, DataError where the template refuses the messages (`raise_exception`) or fails on them.
   */
  render(messages: readonly ChatMessage[], options?: RenderOptions): string;
  /** The text with the parts that `{% generation %}` marks in it, in order; none where the template marks nothing. Throws as `render` does. */
  renderMarked(messages: readonly ChatMessage[], options?: RenderOptions): { readonly text: string; readonly spans: readonly Span[] };
}

/**
 * The template that a tokenizer's config holds: `chat_template`, a text, or several by name (a list of {name, template}, or names with
 * texts), of which the one named "default" is meant. Undefined where there is none, or none of that name. `variables` are those of the tokenizer's special
 * tokens: `bos_token` and so on. Source: transformers' `PreTrainedTokenizerBase.get_chat_template` and `_compile_jinja_template`.
 */
export function chatTemplateOf(
  config: Readonly<Record<string, unknown>>,
  variables: Readonly<Record<string, string>>,
): ChatTemplate | undefined {
  const source = defaultTemplate(config.chat_template);
  return source === undefined ? undefined : chatTemplate(source, variables);
}

/** A chat template from its Jinja source; it is parsed when it is used first. */
export function chatTemplate(source: string, variables: Readonly<Record<string, string>> = {}): ChatTemplate {
  let parsed: unknown;
  const renderMarked: ChatTemplate["renderMarked"] = (messages, { addGenerationPrompt = false, now = new Date() } = {}) => {
    parsed ??= parsedTemplate(source);
    const environment: Environment = new LibraryEnvironment();
    const values = {
      ...{ true: true, True: true, false: false, False: false, none: null, None: null },
      ...{ range: pythonRange, [stripFunction]: strip, strftime_now: (format: string) => strftime(now, format), raise_exception: refuse },
      ...variables,
      ...{ messages, tools: null, documents: null, add_generation_prompt: addGenerationPrompt },
    };
    for (const [name, value] of Object.entries(values)) environment.set(name, value);
    const interpreter: Interpreter = new LibraryInterpreter(environment);
    try {
      return unmarked(interpreter.run(parsed).value);
    } catch (cause) {
      if (cause instanceof DataError) throw cause;
      throw new DataError(`the model's chat template fails on these messages: ${messageOf(cause)}`, { cause });
    }
  };
  return {
    source,
    marksTurns: generationTag.test(source),
    renderMarked,
    render: (messages, options) => renderMarked(messages, options).text,
  };
}

/** A tokenizer's chat template. Throws ModelError for a tokenizer without one, as those of base models are. */
export function requireChatTemplate({ chatTemplate: template }: { readonly chatTemplate: ChatTemplate | undefined }): ChatTemplate {
  if (template !== undefined) return template;
  throw new ModelError("the model's tokenizer has no chat template, so that messages have no form", {
    hint: 'take the model\'s chat or "instruct" version, put a chat_template.jinja beside its tokenizer.json, or write rows with "prompt" and "completion"',
  });
}

/** What is used of the library; its own declarations do not resolve under NodeNext (imports without suffixes). */
interface Environment {
  set(name: string, value: unknown): unknown;
}
interface Interpreter {
  run(program: unknown): { readonly value: string };
}

function defaultTemplate(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return undefined;
  const named: Readonly<Record<string, unknown>> = Array.isArray(value)
    ? Object.fromEntries(
        value.map((each: { readonly name?: unknown; readonly template?: unknown } | null) => [String(each?.name), each?.template]),
      )
    : { ...value };
  return typeof named.default === "string" ? named.default : undefined;
}

const generationTag = /\{%(-?)\s*(end)?generation\s*(-?)%\}/;
/** Stand in the rendered text where a marked part begins and ends: the first two characters of a plane that holds none of anybody else's. */
const marks = { start: "\u{F0000}", end: "\u{F0001}" } as const;
/** The name by which templates' calls of strip, lstrip and rstrip are made. */
const stripFunction = "python_strip";

function parsedTemplate(source: string): unknown {
  // Each mark's tag becomes a statement that prints a mark; white space around it goes as it would around the tag.
  const marking = source.replaceAll(
    new RegExp(generationTag, "g"),
    (_, left: string, end: string | undefined, right: string) =>
      `{%${left} if true %}{{ '${end === undefined ? marks.start : marks.end}' }}{% endif ${right}%}`,
  );
  try {
    const program: unknown = parse(tokenize(withPythonEscapes(marking), { lstrip_blocks: true, trim_blocks: true }));
    withPythonStrip(program);
    return program;
  } catch (cause) {
    throw new ModelError(`the model's chat template is broken: ${messageOf(cause)}`, {
      hint: "it stands in chat_template.jinja beside the tokenizer, or in tokenizer_config.json",
      cause,
    });
  }
}

/** In a template's tags, `\` before a line break joins the lines, and before a letter without a meaning it stays: Python's strings, where the library throws. */
function withPythonEscapes(source: string): string {
  return source.replaceAll(/\{[{%][\s\S]*?[%}]\}/g, (tag) =>
    tag.replaceAll(/\\([\s\S])/g, (all, next: string) => {
      if (next === "\n") return "";
      return /[\\nrtbfv'"xuaNU0-7]/.test(next) ? all : `\\${all}`;
    }),
  );
}

/** Calls `x.rstrip('\n')` of a parsed template by a function that knows which characters; the library's takes off all white space whatever is said. */
function withPythonStrip(node: unknown): void {
  if (typeof node !== "object" || node === null) return;
  if (node instanceof Map) for (const pair of node) withPythonStrip(pair);
  for (const child of Object.values(node)) withPythonStrip(child);
  if (!("callee" in node && "args" in node && Array.isArray(node.args))) return;
  const { callee } = node;
  if (!isMember(callee) || !["strip", "lstrip", "rstrip"].includes(callee.property.value)) return;
  const name = Object.assign(Object.create(Object.getPrototypeOf(callee.property)), callee.property, { value: stripFunction });
  const side = { type: "StringLiteral", value: callee.property.value };
  Object.assign(node, { callee: name, args: [side, callee.object, ...node.args] });
}

function isMember(
  node: unknown,
): node is { readonly object: unknown; readonly property: { readonly type: string; readonly value: string } } {
  return typeof node === "object" && node !== null && "computed" in node && node.computed === false && "property" in node;
}

function strip(side: string, text: unknown, characters?: string | null): string {
  if (typeof text !== "string") throw new Error(`${side}() of what is no text`);
  return pythonStrip(text, side, characters ?? undefined);
}

function refuse(message: unknown): never {
  throw new DataError(`the model's chat template refuses these messages: ${String(message)}`);
}

/** A text without its marks, and where they stood. */
function unmarked(marked: string): { readonly text: string; readonly spans: readonly Span[] } {
  const [first = "", ...rest] = marked.split(marks.start);
  let text = first;
  const spans = rest.map((part) => {
    const [inside = "", ...outside] = part.split(marks.end);
    const span = { start: text.length, end: text.length + inside.length };
    text += inside + outside.join("");
    return span;
  });
  return { text, spans };
}
