/** A figure with three digits behind the point; "undefined" for null. */
export function figure(value: number | null): string {
  return value === null ? "undefined" : value.toFixed(3);
}

/** A whole number with its thousands apart. */
export function whole(value: number): string {
  return Math.round(value).toLocaleString("en");
}

/** Bytes in words. */
export function size(bytes: number): string {
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(bytes < 1e4 ? 1 : 0)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

/** Seconds in words, from microseconds to minutes. */
export function time(seconds: number): string {
  const sign = seconds < -5e-5 ? "−" : ""; // no sign before 0.0 ms
  const value = Math.abs(seconds);
  if (value < 1) return `${sign}${(1000 * value).toFixed(value < 0.1 ? 1 : 0)} ms`;
  return value < 120 ? `${sign}${value.toFixed(1)} s` : `${sign}${(value / 60).toFixed(1)} min`;
}

/** Joules in words. */
export function energy(joules: number): string {
  return joules < 1000 ? `${joules.toFixed(0)} J` : `${(joules / 1000).toFixed(1)} kJ`;
}

/** A p-value in words. */
export function pValue(p: number): string {
  return p < 0.001 ? "< 0.001" : p.toFixed(3);
}
