/** Where a verb prints: results to stdout, progress and remarks to stderr. With `--json` stdout carries JSON only. */
export interface Output {
  readonly json: boolean;
  /** A result for people; nothing with --json. */
  say(text: string): void;
  /** A remark for people, on stderr. */
  note(text: string): void;
  /** A result for programs: one JSON document on a line; nothing without --json. */
  emit(value: unknown): void;
  /** One JSON object on a line of stdout whatever the mode, for verbs whose output is JSON lines. */
  row(value: unknown): void;
  /** A line on stderr that the next one replaces; nothing where stderr is no terminal. */
  progress(text: string): void;
  /** Whether stderr is a terminal. */
  readonly live: boolean;
}

/** Output to this process's streams. */
export function processOutput(json: boolean): Output {
  const live = process.stderr.isTTY === true;
  let open = false;
  const clear = (): void => {
    if (open) process.stderr.write("\r\x1b[2K");
    open = false;
  };
  return {
    json,
    live,
    say(text) {
      clear();
      if (!json) process.stdout.write(`${text}\n`);
    },
    note(text) {
      clear();
      process.stderr.write(`${text}\n`);
    },
    emit(value) {
      clear();
      if (json) process.stdout.write(`${JSON.stringify(value)}\n`);
    },
    row(value) {
      clear();
      process.stdout.write(`${JSON.stringify(value)}\n`);
    },
    progress(text) {
      if (!live) return;
      const width = (process.stderr.columns ?? 80) - 1;
      process.stderr.write(`\r\x1b[2K${text.length > width ? `${text.slice(0, width - 1)}…` : text}`);
      open = true;
    },
  };
}
