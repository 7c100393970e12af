import { type Paint, paintFor } from "./paint.js";

/** A stream to print to: process.stdout and process.stderr are such. */
export interface Stream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** Whether a stream is a terminal of the process, on which lines can be edited. */
export function isTerminal(stream: Stream): stream is Stream & NodeJS.WritableStream {
  return stream.isTTY === true && "cork" in stream;
}

/** Where a verb prints: results to stdout, progress and remarks to stderr. With `--json` stdout carries JSON only. */
export interface Output {
  readonly json: boolean;
  /** How this program was called, for command lines to copy: `peft`. */
  readonly command: string;
  /** Colours for what `say` prints. */
  readonly paint: Paint;
  /** Colours for what `note` and `progress` print. */
  readonly notePaint: Paint;
  /** Columns of the terminal that `say` prints to; 80 where it is none. */
  readonly columns: number;
  /** Whether stderr is a terminal on which a line can be replaced. */
  readonly live: boolean;
  /** A result for people; nothing with --json. */
  say(text: string): void;
  /** A part of a result for people as it comes, without the end of a line; nothing with --json. */
  stream(text: string): void;
  /** A remark for people, on stderr. */
  note(text: string): void;
  /** A result for programs: one JSON document on a line; nothing without --json. */
  emit(value: unknown): void;
  /** One JSON object on a line of stdout whatever the mode, for verbs whose output is JSON lines. */
  row(value: unknown): void;
  /** A line on stderr, without colours, that the next one replaces; nothing where stderr is no terminal. */
  progress(text: string): void;
  /** Takes the progress line away. */
  clear(): void;
}

/** What output needs of the process. */
export interface OutputSurroundings {
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** How this program was called; `peft` by default. */
  readonly command?: string;
}

/** Output to two streams. */
export function streamOutput(json: boolean, { stdout, stderr, env, command = "peft" }: OutputSurroundings): Output {
  const live = stderr.isTTY === true && env.TERM !== "dumb";
  let open = false;
  const clear = (): void => {
    if (open) stderr.write("\r\x1b[2K");
    open = false;
  };
  const line = (stream: Stream, text: string): void => {
    clear();
    stream.write(`${text}\n`);
  };
  return {
    json,
    command,
    live,
    clear,
    paint: paintFor(stdout, env),
    notePaint: paintFor(stderr, env),
    columns: stdout.columns ?? 80,
    say(text) {
      if (!json) line(stdout, text);
    },
    stream(text) {
      clear();
      if (!json) stdout.write(text);
    },
    note: (text) => line(stderr, text),
    emit(value) {
      if (json) line(stdout, JSON.stringify(value));
    },
    row: (value) => line(stdout, JSON.stringify(value)),
    progress(text) {
      if (!live) return;
      const width = (stderr.columns ?? 80) - 1;
      stderr.write(`\r\x1b[2K${text.length > width ? `${text.slice(0, width - 1)}…` : text}`);
      open = true;
    },
  };
}
