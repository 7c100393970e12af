import type { LengthSummary } from "../programs/data-check.js";
import { bar, table } from "./words.js";

/** Texts' lengths for people: a line of numbers, and the histogram as bars. */
export function lengthLines({ min, median, mean, p95, max, limit, cut, histogram }: LengthSummary): readonly string[] {
  const most = Math.max(...histogram.map(({ count }) => count));
  const bars = histogram.map(({ from, to, count }) => [
    from === to ? `${from}` : `${from}–${to}`,
    String(count),
    bar(count / most, 30).replaceAll("░", "") || (count > 0 ? "▏" : ""),
  ]);
  const limits = Number.isFinite(limit) ? `; limit ${limit}${cut > 0 ? `, ${cut} will be cut` : ""}` : "";
  return [`tokens a text: ${min} to ${max}, median ${median}, mean ${mean.toFixed(1)}, 95 % up to ${p95}${limits}`, ...table(bars)];
}
