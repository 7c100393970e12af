import type { Tokenizer } from "../data/tokenizer.js";

/** The text of tokens as they come, in pieces that hold whole characters, up to the first stop string. */
export interface TextStream {
  /** What the next token adds to the text that can no longer be a part of a stop string; "" where nothing is sure yet. */
  push(id: number): string;
  /** What is left when no more tokens come. */
  end(): string;
  /** Whether a stop string came. */
  readonly stopped: boolean;
  /** All that was given out. */
  readonly text: string;
}

/** The stream of one text. Special tokens are left out. */
export function textStream(tokenizer: Tokenizer, stop: readonly string[]): TextStream {
  const ids: number[] = [];
  /** Tokens whose text stands in `whole`; decoding starts at the ones before `from`, since what a token adds depends on its neighbours. */
  let from = 0;
  let read = 0;
  let whole = "";
  let given = 0;
  let stopped = false;
  const decode = (start: number, end: number): string => tokenizer.decode(ids.slice(start, end), { skipSpecialTokens: true });

  /** Gives out `whole` up to the first stop string, or up to where one may have begun. */
  const give = (isLast: boolean): string => {
    if (stopped) return "";
    const found = stop.map((text) => whole.indexOf(text, given)).filter((at) => at >= 0);
    stopped = found.length > 0;
    if (stopped) whole = whole.slice(0, Math.min(...found));
    const held = stopped || isLast ? 0 : Math.max(0, ...stop.map((text) => overlap(whole, text)));
    const end = Math.max(given, whole.length - held);
    const piece = whole.slice(given, end);
    given = end;
    return piece;
  };

  return {
    push(id) {
      ids.push(id);
      const before = decode(from, read);
      const after = decode(from, ids.length);
      // a character of several tokens reads as U+FFFD until its last one is there
      if (after.length <= before.length || after.endsWith("\uFFFD")) return "";
      whole += after.slice(before.length);
      from = read;
      read = ids.length;
      return give(false);
    },
    end() {
      if (!stopped) whole += decode(from, ids.length).slice(decode(from, read).length);
      from = read = ids.length;
      return give(true);
    },
    get stopped() {
      return stopped;
    },
    get text() {
      return whole.slice(0, given);
    },
  };
}

/** How many characters at the end of a text begin `stop`. */
function overlap(text: string, stop: string): number {
  for (let count = Math.min(text.length, stop.length - 1); count > 0; count--) if (text.endsWith(stop.slice(0, count))) return count;
  return 0;
}
