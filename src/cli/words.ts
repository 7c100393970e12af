/** Metrics in words: `accuracy 0.913, macro_f1 0.907`. */
export function metricsText(metrics: Readonly<Record<string, number | null>>): string {
  return Object.entries(metrics)
    .map(([name, value]) => `${name} ${value === null ? "undefined" : value.toFixed(4)}`)
    .join(", ");
}

/** Seconds in words: `41 s`, `3 min 20 s`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** A bar that is filled to a share from 0 to 1. */
export function bar(share: number, width = 20): string {
  const filled = Math.round(Math.max(0, Math.min(1, share)) * width);
  return `${"█".repeat(filled)}${"░".repeat(width - filled)}`;
}

/** Bytes in words: `1.5 GB`, `90.9 MB`, `512 bytes`. */
export function bytes(count: number): string {
  if (count < 1e4) return `${Math.round(count)} bytes`;
  if (count < 1e6) return `${(count / 1e3).toFixed(0)} kB`;
  return count < 1e9 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e9).toFixed(1)} GB`;
}

/** A whole number with its thousands apart: `22,713,216`. */
export function count(value: number): string {
  return value.toLocaleString("en");
}

/** A share in per cent: `0.34 %`. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}

/** Lines of cells with aligned columns; cells of numbers stand right. Colours do not count as width. */
export function table(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = rows.reduce<number[]>((all, row) => row.map((cell, i) => Math.max(all[i] ?? 0, visible(cell).length)), []);
  return rows.map((row) =>
    row
      .map((cell, i) => {
        const space = " ".repeat((widths[i] ?? 0) - visible(cell).length);
        if (/^[\d.,]+( %)?$/.test(visible(cell))) return space + cell;
        return i === row.length - 1 ? cell : cell + space;
      })
      .join("  "),
  );
}

/** A text cut to a width, with an ellipsis where it was longer. */
export function cut(text: string, width: number): string {
  return text.length > width ? `${text.slice(0, Math.max(0, width - 1))}…` : text;
}

function visible(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control sequences
  return text.replaceAll(/\x1b\[\d+m/g, "");
}
