/** Colours for one stream: each function gives the text back as it is where the stream shows none. */
export interface Paint {
  readonly colours: boolean;
  bold(text: string): string;
  dim(text: string): string;
  underline(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
}

/** Colours on a terminal only, and not where NO_COLOR (https://no-color.org) or TERM=dumb asks for none. The one place that decides. */
export function paintFor(stream: { readonly isTTY?: boolean }, env: Readonly<Record<string, string | undefined>>): Paint {
  const colours = stream.isTTY === true && (env.NO_COLOR ?? "") === "" && env.TERM !== "dumb";
  const style =
    (open: number, close: number) =>
    (text: string): string =>
      colours && text !== "" ? `\x1b[${open}m${text}\x1b[${close}m` : text;
  return {
    colours,
    bold: style(1, 22),
    dim: style(2, 22),
    underline: style(4, 24),
    red: style(31, 39),
    green: style(32, 39),
    yellow: style(33, 39),
    cyan: style(36, 39),
  };
}
